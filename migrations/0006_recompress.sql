-- SPDX-License-Identifier: Apache-2.0
-- Packs are rewritten when the server is idle: what was done to each, and what it gave in all.

ALTER TABLE pack DROP CONSTRAINT pack_state_check;
ALTER TABLE pack
	ADD CONSTRAINT pack_state_check CHECK (state BETWEEN 0 AND 4),
	ADD COLUMN closed_at    timestamptz,
	ADD COLUMN retired_at   timestamptz,
	ADD COLUMN squeeze      smallint NOT NULL DEFAULT 0 CHECK (squeeze BETWEEN 0 AND 2),
	ADD COLUMN gain         bigint CHECK (gain >= 0),
	ADD COLUMN raw_bytes    bigint CHECK (raw_bytes >= 0),
	ADD COLUMN bytes_before bigint CHECK (bytes_before >= 0);
CREATE INDEX pack_to_squeeze ON pack (gain) WHERE squeeze = 0 AND state IN (1, 2);
CREATE INDEX pack_leaving ON pack (state, id) WHERE state IN (3, 4);
COMMENT ON TABLE pack IS 'one append-only file; state 0 open, 1 sealed (has a footer), 2 closed without a footer after a crash, 3 retired (others hold its chunks, its file goes after a grace), 4 being written by a rewrite that has not been committed; ids are never used again';
COMMENT ON COLUMN pack.closed_at IS 'when it was first known to be written no more; NULL: before this was noted';
COMMENT ON COLUMN pack.retired_at IS 'state 3: since when, or when it was last found to be needed still';
COMMENT ON COLUMN pack.squeeze IS '0 as uploaded, 1 recompressed, 2 looked at and left as it is: nothing to gain';
COMMENT ON COLUMN pack.gain IS 'squeeze 0: bytes that recompression is expected to give back; NULL: not looked at';
COMMENT ON COLUMN pack.raw_bytes IS 'bytes of the chunks in it, not compressed; NULL: not looked at';
COMMENT ON COLUMN pack.bytes_before IS 'squeeze 1: bytes of the packs that it was made of';

CREATE TABLE recompression (
	one          boolean PRIMARY KEY DEFAULT true CHECK (one),
	packs_before bigint NOT NULL DEFAULT 0,
	packs_after  bigint NOT NULL DEFAULT 0,
	bytes_before bigint NOT NULL DEFAULT 0,
	bytes_after  bigint NOT NULL DEFAULT 0,
	raw_bytes    bigint NOT NULL DEFAULT 0,
	frames       bigint NOT NULL DEFAULT 0,
	cpu_us       bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE recompression IS 'one row: what recompression has done since ever; packs come and go, this stays';
INSERT INTO recompression DEFAULT VALUES;
