-- SPDX-License-Identifier: Apache-2.0
-- Half of a batch are hashes, and it is read once if ever: packing it costs more than it saves.

ALTER TABLE stage_batch ALTER COLUMN records SET STORAGE EXTERNAL;
