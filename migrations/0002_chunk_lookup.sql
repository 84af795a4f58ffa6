-- SPDX-License-Identifier: Apache-2.0
-- Chunks by the place they are in, and who adds them.

CREATE INDEX chunk_place ON chunk (pack_id, frame_offset);
COMMENT ON INDEX chunk_place IS 'the chunks of a pack in the order of its frames: what an upload that repeats an old one asks for next';

DROP INDEX pack_repo;
CREATE INDEX pack_repo ON pack (repo_id, id);

CREATE TABLE chunk_writer (
	one boolean PRIMARY KEY DEFAULT true CHECK (one),
	id  uuid NOT NULL
);
INSERT INTO chunk_writer (id) VALUES (gen_random_uuid());
COMMENT ON TABLE chunk_writer IS 'one row: drawn anew by whatever begins to add chunk rows, before it adds the first; a saved filter is whole only while the id it was saved under stands here';
