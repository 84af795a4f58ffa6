-- SPDX-License-Identifier: Apache-2.0
-- Digstore's first schema. Hashes are SHA-256 in bytea(32); sizes and offsets are bigint everywhere.
-- There is no row per chunk reference and no reference count: what is alive is found by marking.

CREATE TABLE repo (
	id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name         text UNIQUE,
	uuid         uuid NOT NULL UNIQUE,
	chunker      smallint NOT NULL,
	hash_alg     smallint NOT NULL,
	chunk_target bigint NOT NULL CHECK (chunk_target > 0),
	description  text NOT NULL DEFAULT '',
	created_at   timestamptz NOT NULL DEFAULT now(),
	dropped_at   timestamptz,
	CHECK ((name IS NULL) = (dropped_at IS NOT NULL))
);
COMMENT ON TABLE repo IS 'dedup, trust and accounting boundary; a dropped one has lost its name and waits to be swept';

CREATE TABLE pack (
	id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	repo_id     bigint NOT NULL REFERENCES repo (id),
	state       smallint NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 2),
	bytes       bigint NOT NULL DEFAULT 0,
	created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX pack_repo ON pack (repo_id);
CREATE INDEX pack_open ON pack (id) WHERE state = 0;
COMMENT ON TABLE pack IS 'one append-only file; state 0 open, 1 sealed (has a footer), 2 closed without a footer after a crash; ids are never used again';

CREATE TABLE chunk (
	repo_id      bigint NOT NULL,
	hash         bytea NOT NULL CHECK (octet_length(hash) = 32),
	pack_id      bigint NOT NULL,
	frame_offset bigint NOT NULL,
	frame_bytes  bigint NOT NULL,
	raw_offset   bigint NOT NULL,
	length       bigint NOT NULL,
	touch        bigint NOT NULL DEFAULT 0,
	state        smallint NOT NULL DEFAULT 0 CHECK (state IN (0, 1)),
	PRIMARY KEY (repo_id, hash)
);
ALTER TABLE chunk ALTER COLUMN hash SET STORAGE PLAIN;
COMMENT ON TABLE chunk IS 'where the bytes of a chunk are; state 0 live, 1 bad (did not verify, healed by the next upload that carries it)';

CREATE SEQUENCE recipe_id_seq INCREMENT BY 64;

CREATE TABLE recipe_part (
	recipe_id bigint NOT NULL,
	start     bigint NOT NULL,
	entries   bytea NOT NULL,
	PRIMARY KEY (recipe_id, start)
);
ALTER TABLE recipe_part ALTER COLUMN entries SET STORAGE EXTERNAL;
COMMENT ON TABLE recipe_part IS 'packed list of chunk slices of one file, cut into parts by the byte offset where each begins';

CREATE TABLE file (
	repo_id   bigint NOT NULL,
	id        bytea NOT NULL CHECK (octet_length(id) = 32),
	size      bigint NOT NULL,
	chunks    bigint NOT NULL,
	recipe_id bigint NOT NULL,
	sha256    bytea CHECK (octet_length(sha256) = 32),
	PRIMARY KEY (repo_id, id)
);
COMMENT ON TABLE file IS 'a file content of more than one chunk, by its recipe id; a one-chunk content needs no row';

CREATE TABLE stage (
	id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	repo_id    bigint NOT NULL REFERENCES repo (id),
	name       text NOT NULL,
	state      smallint NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 4),
	created_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz NOT NULL,
	counters   bytea,
	commit_id  bytea CHECK (octet_length(commit_id) = 32),
	UNIQUE (repo_id, name)
);
CREATE INDEX stage_expiry ON stage (expires_at);
COMMENT ON TABLE stage IS 'open basket a commit is made from; state 0 open, 1 committing, 2 committed, 3 failed, 4 expired';

CREATE TABLE stage_batch (
	stage_id bigint NOT NULL REFERENCES stage (id) ON DELETE CASCADE,
	seq      bigint NOT NULL,
	records  bytea NOT NULL,
	checksum bigint NOT NULL,
	PRIMARY KEY (stage_id, seq)
);
COMMENT ON TABLE stage_batch IS 'log of a stage: packed put and remove records, replayed in order of seq';

CREATE TABLE upload (
	stage_id    bigint NOT NULL REFERENCES stage (id) ON DELETE CASCADE,
	path        bytea NOT NULL,
	recipe_id   bigint NOT NULL,
	chunk_bytes bigint NOT NULL,
	chunks      bigint NOT NULL,
	tail        bytea NOT NULL,
	total       bigint,
	id_state    bytea NOT NULL,
	sha_state   bytea,
	updated_at  timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (stage_id, path)
);
COMMENT ON TABLE upload IS 'a file that has arrived in part: chunk_bytes are in the recipe, tail follows them, the client goes on behind both';

CREATE TABLE tree_node (
	repo_id bigint NOT NULL,
	hash    bytea NOT NULL CHECK (octet_length(hash) = 32),
	data    bytea NOT NULL,
	PRIMARY KEY (repo_id, hash)
);
ALTER TABLE tree_node ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE commit (
	repo_id    bigint NOT NULL REFERENCES repo (id),
	id         bytea NOT NULL CHECK (octet_length(id) = 32),
	parent     bytea CHECK (octet_length(parent) = 32),
	tree       bytea NOT NULL CHECK (octet_length(tree) = 32),
	created_at timestamptz NOT NULL,
	canonical  bytea NOT NULL,
	PRIMARY KEY (repo_id, id)
);
COMMENT ON TABLE commit IS 'id is the SHA-256 of canonical; the other columns repeat what canonical says';

CREATE TABLE ref (
	repo_id    bigint NOT NULL,
	name       text COLLATE "C" NOT NULL,
	commit_id  bytea NOT NULL,
	updated_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (repo_id, name),
	FOREIGN KEY (repo_id, commit_id) REFERENCES commit (repo_id, id)
);

CREATE TABLE idempotency (
	repo_id    bigint NOT NULL,
	key        text NOT NULL,
	request    bytea NOT NULL CHECK (octet_length(request) = 32),
	status     integer NOT NULL,
	body       bytea NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (repo_id, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);
COMMENT ON TABLE idempotency IS 'answers already given to a request with an Idempotency-Key, written in the transaction of the commit';
