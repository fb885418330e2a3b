-- What came, whole, once however often it is sent: the event's id is the same on every attempt of a delivery.
CREATE TABLE inbox (
    event_id uuid NOT NULL,
    -- An event that comes again with another number or account is another opt-out, so the id alone is no key.
    phone text NOT NULL,
    user_id bigint NOT NULL,
    -- Canonical JSON. As text, because jsonb (and each operator of json) refuses \u0000, which a
    -- person may have typed: one such row must neither be lost nor break a report over all of them.
    event text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, phone, user_id)
);

-- Whom not to text.
CREATE TABLE suppression (
    phone text NOT NULL,
    -- NULL: the body that said the number did not say the account, so no account may text it.
    user_id bigint,
    -- In the inbox, until old events are moved elsewhere. NULL: not from a webhook, or from a dead letter without one.
    event_id uuid,
    since timestamptz NOT NULL DEFAULT now(),
    source text NOT NULL DEFAULT 'webhook' CHECK (source IN ('webhook', 'provider_list')),
    -- When the provider put the number on its list; `since` is when it came onto this one.
    provider_added_at timestamptz
);

-- Two indexes, because NULLS NOT DISTINCT needs PostgreSQL 15.
CREATE UNIQUE INDEX suppression_account ON suppression (phone, user_id);
CREATE UNIQUE INDEX suppression_every_account ON suppression (phone) WHERE user_id IS NULL;

-- Authentic deliveries that could not be read, for a person to look at.
CREATE TABLE dead_letter (
    -- SHA-256 of the body without its attempt number: four attempts leave one row.
    fingerprint bytea PRIMARY KEY,
    body bytea NOT NULL,
    code text NOT NULL,
    pointer text,
    received_at timestamptz NOT NULL DEFAULT now()
);
