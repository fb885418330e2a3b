-- What came, whole. The event's id is the same on every attempt of a delivery, so each event is
-- here once.
CREATE TABLE inbox (
    event_id uuid PRIMARY KEY,
    -- Canonical JSON. As text, because jsonb (and each operator of json) refuses \u0000, which a
    -- person may have typed: one such row must neither be lost nor break a report over all of them.
    event text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);

-- Whom not to text.
CREATE TABLE suppression (
    phone text NOT NULL,
    user_id bigint NOT NULL,
    -- In the inbox, until old events are moved elsewhere.
    event_id uuid NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (phone, user_id)
);

-- Authentic deliveries that could not be read, for a person to look at.
CREATE TABLE dead_letter (
    -- SHA-256 of the body without its attempt number: four attempts leave one row.
    fingerprint bytea PRIMARY KEY,
    body bytea NOT NULL,
    code text NOT NULL,
    pointer text,
    received_at timestamptz NOT NULL DEFAULT now()
);
