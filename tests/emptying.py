"""A clean house between tests: no row of the last one is left."""

from sqlalchemy import text

EMPTY = text(
    """
    DO $$
    DECLARE each text;
    BEGIN
        SET LOCAL session_replication_role = replica;  -- neither triggers nor foreign keys
        FOR each IN
            SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
            WHERE schemaname NOT LIKE 'pg_%' AND schemaname <> 'information_schema'
            AND tablename NOT IN ('alembic_version', 'installation')  -- it stands in the store too
        LOOP
            EXECUTE 'DELETE FROM ' || each;
        END LOOP;
    END $$
    """
)
"""Empties every table. Fifteen times as quick as TRUNCATE, which makes new files for 47 tables."""
