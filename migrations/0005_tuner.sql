-- SPDX-License-Identifier: Apache-2.0
-- What the server measured of itself and learnt from it. Nothing here is needed to serve data: all of
-- it may be deleted, and the server begins anew.

CREATE TABLE performance (
	at      timestamptz PRIMARY KEY,
	version smallint NOT NULL,
	figures bytea NOT NULL
);
ALTER TABLE performance ALTER COLUMN figures SET STORAGE PLAIN;
COMMENT ON TABLE performance IS 'figures of the minute that ends at this time, for a day: 8 bytes each, little-endian, in the order of core/care/monitor.c; all ones: nothing to measure';
COMMENT ON COLUMN performance.version IS 'of the list of figures: rows of another version are not read';

CREATE TABLE tuner_class (
	class           text PRIMARY KEY,
	load_ms         bigint NOT NULL,
	lost_ms         bigint NOT NULL,
	backoff_ms      bigint NOT NULL,
	backoff_left_ms bigint NOT NULL,
	noise_ppm       bigint NOT NULL,
	rate_milli      bigint NOT NULL,
	gain_ppm        bigint NOT NULL,
	saved_at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tuner_class IS 'what was learnt of a class of load; times are times under such load, no matter when';
COMMENT ON COLUMN tuner_class.lost_ms IS 'the ledger: work that trials and errors cost, in time that the same work takes';
COMMENT ON COLUMN tuner_class.backoff_ms IS 'pause between two rounds of trials, and below what is left of the one that runs';
COMMENT ON COLUMN tuner_class.noise_ppm IS 'variance of the logarithm of the ratio of two neighbouring windows, in millionths; -1: not known';
COMMENT ON COLUMN tuner_class.rate_milli IS 'usual work a second, in thousandths of the unit of the class; 0: not known';
COMMENT ON COLUMN tuner_class.gain_ppm IS 'logarithm of the ratio of that rate to the one with the defaults, in millionths; 0: not known';

CREATE TABLE tuner_setting (
	class text NOT NULL REFERENCES tuner_class (class) ON DELETE CASCADE,
	knob  text NOT NULL,
	value bigint NOT NULL,
	PRIMARY KEY (class, knob)
);
COMMENT ON TABLE tuner_setting IS 'where a knob stands under a class of load, if not at its default';

CREATE TABLE tuner_decision (
	number       bigint PRIMARY KEY,
	decided_at   timestamptz NOT NULL,
	class        text NOT NULL,
	decision     text NOT NULL,
	knob         text NOT NULL,
	from_value   bigint NOT NULL,
	to_value     bigint NOT NULL,
	before_milli bigint NOT NULL,
	after_milli  bigint NOT NULL,
	pairs        bigint NOT NULL,
	reason       text NOT NULL
);
COMMENT ON TABLE tuner_decision IS 'the last decisions of the tuner; rates in thousandths of the unit of the class, 0: not known';

CREATE TABLE tuner_mode (
	id   smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
	mode text NOT NULL
);
COMMENT ON TABLE tuner_mode IS 'what a request asked the tuner to do; no row: nobody asked';
