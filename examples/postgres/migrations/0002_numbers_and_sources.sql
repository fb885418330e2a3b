-- An event that comes again with another number or account is another opt-out, so the id alone is no key. What
-- was stored before has '' and 0. Replicas of the version before answer 500 from here on.
ALTER TABLE inbox
    ADD phone text NOT NULL DEFAULT '',
    ADD user_id bigint NOT NULL DEFAULT 0,
    DROP CONSTRAINT inbox_pkey,
    ADD PRIMARY KEY (event_id, phone, user_id);
ALTER TABLE inbox
    ALTER phone DROP DEFAULT,
    ALTER user_id DROP DEFAULT;

ALTER TABLE suppression
    DROP CONSTRAINT suppression_pkey,
    -- NULL: the body that said the number did not say the account, so no account may text it.
    ALTER user_id DROP NOT NULL,
    -- NULL: not from a webhook, or from a dead letter without one.
    ALTER event_id DROP NOT NULL,
    ADD source text NOT NULL DEFAULT 'webhook' CHECK (source IN ('webhook', 'provider_list')),
    -- When the provider put the number on its list; `since` is when it came onto this one.
    ADD provider_added_at timestamptz;

-- Two indexes, because NULLS NOT DISTINCT needs PostgreSQL 15.
CREATE UNIQUE INDEX suppression_account ON suppression (phone, user_id);
CREATE UNIQUE INDEX suppression_every_account ON suppression (phone) WHERE user_id IS NULL;
