-- SPDX-License-Identifier: Apache-2.0
-- Imports: directories of the server's own machine that clients asked to take in. A row is written
-- before the client is answered and again when the import has ended.

CREATE TABLE import (
	id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	repo_id     bigint NOT NULL REFERENCES repo (id),
	state       smallint NOT NULL DEFAULT 0 CHECK (state IN (0, 2, 3, 4, 5)),
	path        text NOT NULL,
	prefix      text NOT NULL,
	stage       text NOT NULL,
	ref         text,
	skips       smallint NOT NULL CHECK (skips BETWEEN 0 AND 3),
	created_at  timestamptz NOT NULL DEFAULT now(),
	started_at  timestamptz,
	ended_at    timestamptz,
	result      bytea,
	commit_id   bytea CHECK (octet_length(commit_id) = 32),
	error_kind  text,
	error_text  text,
	CHECK ((state = 0) = (ended_at IS NULL))
);
CREATE INDEX import_repo ON import (repo_id, id);
CREATE INDEX import_ended ON import (ended_at);
COMMENT ON TABLE import IS 'a directory that was imported; state 0 waiting or running, 2 done, 3 failed, 4 cancelled, 5 interrupted by the end of the server; skips 1 failures, 2 special things';
