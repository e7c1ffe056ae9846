//! The tables, step by step. A step that is out in the world is never changed: the next one changes what it made.

/// What identifies a row in either database, where the two differ.
pub(super) const ID: &str = "{ID}";

/// Steps, each a list of statements.
///
/// `rows` has what is looked for as columns and the whole row as JSON. Its indexes end in the keys of
/// pages. `sums` and `ups` are kept by the hour (`step` 0) and by the day (1), so that a month is some thousand of
/// them and not millions of rows.
///
/// `meters` has which seconds of an hour each replica was seen up, by whichever gateway, so that `ups` counts each once;
/// hours before the one of `floors` are forgotten, and readings of them count for nothing. `ups` says by a digest who
/// could count on what, and `entitled` has those lists; rows of `ups` from before have the list itself.
pub(super) const STEPS: [&[&str]; 2] = [STEP_1, STEP_2];

const STEP_1: &[&str] = &[
    "CREATE TABLE instances (instance TEXT PRIMARY KEY, upto BIGINT NOT NULL)",
    "CREATE TABLE rows (id {ID}, instance TEXT NOT NULL, seq BIGINT NOT NULL, unix_ms BIGINT NOT NULL, \
     request_id TEXT NOT NULL, tenant TEXT NOT NULL, model TEXT NOT NULL, input BIGINT NOT NULL, \
     cached BIGINT NOT NULL, output BIGINT NOT NULL, charged_micros BIGINT NOT NULL, body TEXT NOT NULL)",
    "CREATE UNIQUE INDEX rows_once ON rows (instance, seq)",
    "CREATE INDEX rows_by_time ON rows (unix_ms, id)",
    "CREATE INDEX rows_by_tenant ON rows (tenant, unix_ms, id)",
    "CREATE INDEX rows_by_model ON rows (model, unix_ms, id)",
    "CREATE INDEX rows_by_tenant_and_model ON rows (tenant, model, unix_ms, id)",
    "CREATE INDEX rows_by_request ON rows (request_id, unix_ms, id)",
    "CREATE TABLE sums (step BIGINT NOT NULL, at BIGINT NOT NULL, tenant TEXT NOT NULL, \
     tenant_path TEXT NOT NULL, model TEXT NOT NULL, version TEXT NOT NULL, hardware TEXT NOT NULL, \
     band TEXT NOT NULL, requests BIGINT NOT NULL, input BIGINT NOT NULL, cached BIGINT NOT NULL, \
     output BIGINT NOT NULL, reasoning BIGINT NOT NULL, charged BIGINT NOT NULL, kv BIGINT NOT NULL, \
     lost_kv BIGINT NOT NULL, busy BIGINT NOT NULL, \
     PRIMARY KEY (step, at, model, hardware, tenant, tenant_path, version, band))",
    "CREATE TABLE ups (step BIGINT NOT NULL, at BIGINT NOT NULL, model TEXT NOT NULL, hardware TEXT NOT NULL, \
     up_ms BIGINT NOT NULL, cost BIGINT NOT NULL, entitled TEXT NOT NULL, \
     PRIMARY KEY (step, at, model, hardware))",
];

const STEP_2: &[&str] = &[
    "ALTER TABLE rows ADD COLUMN detail TEXT NOT NULL DEFAULT ''",
    "CREATE TABLE meters (hour BIGINT NOT NULL, model TEXT NOT NULL, replica TEXT NOT NULL, seconds TEXT NOT NULL, \
     PRIMARY KEY (hour, model, replica))",
    "CREATE TABLE floors (name TEXT PRIMARY KEY, hour BIGINT NOT NULL)",
    "INSERT INTO floors (name, hour) VALUES ('meters', 0)",
    "CREATE TABLE entitled (digest TEXT NOT NULL, part BIGINT NOT NULL, hour BIGINT NOT NULL, body TEXT NOT NULL, \
     PRIMARY KEY (digest, part))",
];
