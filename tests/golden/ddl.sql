-- alias: rowid-alias
CREATE TABLE "s"."alias" ("id" bigint NOT NULL, "name" text COLLATE "C", "v" jsonb, CONSTRAINT "alias_pkey" PRIMARY KEY ("id"))
CREATE TRIGGER tailrace_guard BEFORE INSERT OR UPDATE OR DELETE ON "s"."alias" FOR EACH STATEMENT EXECUTE FUNCTION tailrace.guard('tailrace_sink')
CREATE TRIGGER tailrace_guard_truncate BEFORE TRUNCATE ON "s"."alias" FOR EACH STATEMENT EXECUTE FUNCTION tailrace.guard('tailrace_sink')
ALTER TABLE "s"."alias" ENABLE ALWAYS TRIGGER tailrace_guard, ENABLE ALWAYS TRIGGER tailrace_guard_truncate
ALTER TABLE "s"."alias" ALTER COLUMN "name" SET NOT NULL
CREATE UNIQUE INDEX IF NOT EXISTS "alias_name_key" ON "s"."alias" (lower("name" COLLATE "C"))
-- Order Details: declared
CREATE TABLE "s"."order details" ("order" bigint NOT NULL, "line no" bigint NOT NULL, "price" numeric, CONSTRAINT "order details_pkey" PRIMARY KEY ("order", "line no"))
CREATE TRIGGER tailrace_guard BEFORE INSERT OR UPDATE OR DELETE ON "s"."order details" FOR EACH STATEMENT EXECUTE FUNCTION tailrace.guard('tailrace_sink')
CREATE TRIGGER tailrace_guard_truncate BEFORE TRUNCATE ON "s"."order details" FOR EACH STATEMENT EXECUTE FUNCTION tailrace.guard('tailrace_sink')
ALTER TABLE "s"."order details" ENABLE ALWAYS TRIGGER tailrace_guard, ENABLE ALWAYS TRIGGER tailrace_guard_truncate
-- nokey: rowid
CREATE TABLE "s"."nokey" ("_tailrace_rowid" bigint NOT NULL, "a" text COLLATE "C", "b" bytea, "c" double precision, "d" boolean, CONSTRAINT "nokey_pkey" PRIMARY KEY ("_tailrace_rowid"))
CREATE TRIGGER tailrace_guard BEFORE INSERT OR UPDATE OR DELETE ON "s"."nokey" FOR EACH STATEMENT EXECUTE FUNCTION tailrace.guard('tailrace_sink')
CREATE TRIGGER tailrace_guard_truncate BEFORE TRUNCATE ON "s"."nokey" FOR EACH STATEMENT EXECUTE FUNCTION tailrace.guard('tailrace_sink')
ALTER TABLE "s"."nokey" ENABLE ALWAYS TRIGGER tailrace_guard, ENABLE ALWAYS TRIGGER tailrace_guard_truncate
-- nullkey: rowid
CREATE TABLE "s"."nullkey" ("_tailrace_rowid" bigint NOT NULL, "k" text COLLATE "C", "xmin_" bigint, CONSTRAINT "nullkey_pkey" PRIMARY KEY ("_tailrace_rowid"))
CREATE TRIGGER tailrace_guard BEFORE INSERT OR UPDATE OR DELETE ON "s"."nullkey" FOR EACH STATEMENT EXECUTE FUNCTION tailrace.guard('tailrace_sink')
CREATE TRIGGER tailrace_guard_truncate BEFORE TRUNCATE ON "s"."nullkey" FOR EACH STATEMENT EXECUTE FUNCTION tailrace.guard('tailrace_sink')
ALTER TABLE "s"."nullkey" ENABLE ALWAYS TRIGGER tailrace_guard, ENABLE ALWAYS TRIGGER tailrace_guard_truncate
CREATE UNIQUE INDEX IF NOT EXISTS "nullkey_k_key" ON "s"."nullkey" ("k")
-- mixed: declared
CREATE TABLE "s"."mixed" ("k" jsonb NOT NULL, "i" text COLLATE "C", "g" bigint, CONSTRAINT "mixed_pkey" PRIMARY KEY ("k"))
CREATE TRIGGER tailrace_guard BEFORE INSERT OR UPDATE OR DELETE ON "s"."mixed" FOR EACH STATEMENT EXECUTE FUNCTION tailrace.guard('tailrace_sink')
CREATE TRIGGER tailrace_guard_truncate BEFORE TRUNCATE ON "s"."mixed" FOR EACH STATEMENT EXECUTE FUNCTION tailrace.guard('tailrace_sink')
ALTER TABLE "s"."mixed" ENABLE ALWAYS TRIGGER tailrace_guard, ENABLE ALWAYS TRIGGER tailrace_guard_truncate
-- reported: mixed_mixed_expression_idx: an index on an expression that has no counterpart here: a mixed value where an integer is wanted
-- reported: mixed_mixed_partial_idx: a partial index whose predicate has no counterpart here: column 'i' (text) compared with integer value
CREATE INDEX IF NOT EXISTS "mixed_mixed_desc_idx" ON "s"."mixed" ("i" DESC, "k")
