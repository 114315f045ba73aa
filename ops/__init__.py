"""Config, clock, loop, supervision, telemetry, audit: what every daemon needs and no domain rule."""
