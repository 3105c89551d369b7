-- Partition the tables of mfa-server by user, on PostgreSQL 15 or newer (docs/scaling.md says when that is worth it):
--
--     psql --set partitions=8 --file docs/partitions.sql "$MFA_DATABASE_URL"
--
-- Run it once, as the tables' owner, after `mfa-server migrate` and while no server runs. It is one transaction: all of
-- it or nothing. What the tables hold is copied, so a fresh database takes a second and a full one its time and twice
-- its place on the disk. Privileges that others were granted on the tables have to be granted again.
--
-- Every row of a user has the same place among the partitions in every table, since all are cut by the hash of their
-- id. Primary keys, indexes and foreign keys are those that the migrations made. One rule cannot stay an index: a
-- WebAuthn credential id is registered once, whoever the user is (W3C WebAuthn Level 3, section 7.1), and a unique index
-- of a partitioned table has to hold the column that it is cut by. So each credential id is also a row of
-- webauthn_credential_id, which is cut by the credential id itself, and which triggers keep.
\set QUIET on
\set ON_ERROR_STOP on
\if :{?partitions}
\else
    \set partitions 8
\endif

BEGIN;
SET LOCAL statement_timeout = 0;
SET LOCAL client_min_messages = warning;
SET LOCAL mfa.partitions = :'partitions';

DO $$
DECLARE
    partitions CONSTANT int := current_setting('mfa.partitions');
    -- Each table, referenced ones first, and the column by whose hash it is cut. The outbox, which is nearly always
    -- empty, and the list of migrations stay as they are.
    cut CONSTANT text[] := ARRAY[
        ['mfa_user', 'id'],
        ['totp_secret', 'user_id'],
        ['email_factor', 'user_id'],
        ['backup_code_set', 'user_id'],
        ['backup_code', 'user_id'],
        ['webauthn_credential', 'user_id'],
        ['webauthn_registration', 'user_id'],
        ['challenge', 'user_id'],
        ['audit_event', 'user_id'],
        ['mail_quota', 'key']
    ];
    pair text[];
    made text;
    afterwards text[];
BEGIN
    IF EXISTS (SELECT FROM pg_partitioned_table WHERE partrelid = 'mfa_user'::regclass) THEN
        RAISE EXCEPTION 'The tables are partitioned already.';
    END IF;
    IF partitions < 1 THEN
        RAISE EXCEPTION 'There must be a partition.';
    END IF;

    -- Primary keys, then indexes, then foreign keys.
    SELECT array_agg(statement ORDER BY place, statement) INTO afterwards FROM (
        SELECT format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)),
               position(contype IN 'pcf')
        FROM pg_constraint
        WHERE conrelid::regclass::text = ANY (cut) AND contype IN ('p', 'c', 'f')
        UNION ALL
        SELECT pg_get_indexdef(indexrelid), 2
        FROM pg_index
        WHERE indrelid::regclass::text = ANY (cut) AND NOT indisunique
    ) AS found (statement, place);

    FOREACH pair SLICE 1 IN ARRAY cut LOOP
        EXECUTE format('ALTER TABLE %I RENAME TO %I', pair[1], pair[1] || '_whole');
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS) PARTITION BY HASH (%I)',
                       pair[1], pair[1] || '_whole', pair[2]);
        FOR n IN 0 .. partitions - 1 LOOP
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES WITH (MODULUS %s, REMAINDER %s) %s',
                           pair[1] || '_' || n, pair[1], partitions, n,
                           (SELECT 'WITH (' || array_to_string(reloptions, ', ') || ')'
                            FROM pg_class WHERE oid = (pair[1] || '_whole')::regclass));
        END LOOP;
        EXECUTE format('INSERT INTO %I SELECT * FROM %I', pair[1], pair[1] || '_whole');
    END LOOP;
    FOREACH pair SLICE 1 IN ARRAY cut LOOP
        EXECUTE format('DROP TABLE %I CASCADE', pair[1] || '_whole');
    END LOOP;
    FOREACH made IN ARRAY afterwards LOOP
        EXECUTE made;
    END LOOP;

    CREATE TABLE webauthn_credential_id (credential_id BYTEA NOT NULL PRIMARY KEY) PARTITION BY HASH (credential_id);
    FOR n IN 0 .. partitions - 1 LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF webauthn_credential_id FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
                       'webauthn_credential_id_' || n, partitions, n);
    END LOOP;
    INSERT INTO webauthn_credential_id SELECT credential_id FROM webauthn_credential;
END
$$;

-- An INSERT of a credential id that is there already, or that another transaction has just inserted and commits, adds
-- no row. That is what the unique index did for the server's INSERT ... ON CONFLICT DO NOTHING.
CREATE FUNCTION claim_webauthn_credential_id() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webauthn_credential_id VALUES (NEW.credential_id) ON CONFLICT DO NOTHING;
    RETURN CASE WHEN FOUND THEN NEW END;
END
$$;
CREATE FUNCTION release_webauthn_credential_id() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM webauthn_credential_id WHERE credential_id = OLD.credential_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER claim BEFORE INSERT ON webauthn_credential
    FOR EACH ROW EXECUTE FUNCTION claim_webauthn_credential_id();
CREATE TRIGGER release AFTER DELETE ON webauthn_credential
    FOR EACH ROW EXECUTE FUNCTION release_webauthn_credential_id();

COMMIT;
ANALYZE;
