"""What no PRAGMA tells, read from the text; SQLite's own grammar (syntaqlite) is the second opinion."""

from __future__ import annotations

from schemas.sqltext import qualify, read_index, read_table, tokens


def test_names_that_look_like_sql() -> None:
    text = read_table(
        """CREATE TABLE "a,(b" ( -- a comment with ) and '
            [odd ) name] TEXT COLLATE NOCASE, /* , */
            `tick``ed` INT CHECK ("x" <> ')'),
            'string' AS ("(" || ',') STORED,
            "quo""ted" COLLATE "rtrim"
        )"""
    )
    assert ["odd ) name", "tick`ed", "string", 'quo"ted'] == list(text.columns)
    assert "NOCASE" == text.columns["odd ) name"].collation
    assert "rtrim" == text.columns['quo"ted'].collation
    assert "\"(\" || ','" == text.columns["string"].generated
    assert ("\"x\" <> ')'",) == text.checks


def test_a_collation_inside_an_expression_is_not_the_columns() -> None:
    text = read_table(
        "CREATE TABLE t(a TEXT CHECK (a COLLATE NOCASE <> 'x'), b TEXT DEFAULT ('y' COLLATE NOCASE), "
        "c AS (a COLLATE RTRIM), d COLLATE NOCASE CHECK (d COLLATE BINARY <> ''))"
    )
    assert ["BINARY", "BINARY", "BINARY", "NOCASE"] == [one.collation for one in text.columns.values()]
    assert ("a COLLATE NOCASE <> 'x'", "d COLLATE BINARY <> ''") == text.checks


def test_table_constraints_with_and_without_commas() -> None:
    text = read_table(
        "CREATE TABLE t(a INT, b INT, CONSTRAINT c1 CHECK (a > 0) CONSTRAINT c2 CHECK (b > 0), UNIQUE (a COLLATE NOCASE))"
    )
    assert ("a > 0", "b > 0") == text.checks
    assert ["a", "b"] == list(text.columns)


def test_deferred_foreign_keys_in_the_order_of_the_text() -> None:
    text = read_table(
        "CREATE TABLE t(a REFERENCES p DEFERRABLE INITIALLY DEFERRED, b REFERENCES p(x) ON DELETE CASCADE, "
        "c REFERENCES p NOT DEFERRABLE INITIALLY DEFERRED, d DEFAULT (1) REFERENCES p DEFERRABLE, "
        "FOREIGN KEY (a, b) REFERENCES q (a, b) DEFERRABLE INITIALLY DEFERRED)"
    )
    assert (True, False, False, False, True) == text.deferred


def test_letters_beyond_ascii_are_letters() -> None:
    # SQLite: every byte above 0x7f may stand in a bare name, emoji and the no-break space among them.
    text = read_table("CREATE TABLE t(🙂 TEXT COLLATE NOCASE, ärger\u00a0x AS (🙂 || 'a'))")
    assert ["🙂", "ärger\u00a0x"] == list(text.columns)
    assert "NOCASE" == text.columns["🙂"].collation
    assert "🙂 || 'a'" == text.columns["ärger\u00a0x"].generated


def test_index_terms_and_predicate() -> None:
    sql = "CREATE UNIQUE INDEX IF NOT EXISTS [on] ON t (lower(a, ','), b COLLATE NOCASE DESC, a + 1 ASC) WHERE b IN (1, 2)"
    assert (["lower ( a , ',' )", "b", "a + 1"], "b IN ( 1 , 2 )") == read_index(sql)
    assert (["a"], None) == read_index('CREATE INDEX i ON "t"("a")'.replace('("a")', "(a)"))


def test_tokens_keep_every_character_that_counts() -> None:
    assert ["X'0a'", "||", "'it''s'", "->>", "1e5", "0xFF", "<>", ".5"] == [
        token.text for token in tokens("X'0a' || 'it''s' ->> 1e5 -- gone\n0xFF /* gone */ <> .5")
    ]


def test_qualify_renames_columns_and_nothing_else() -> None:
    columns = {"a": "a", "name": "Name"}
    assert "lower ( NEW.a ) || NEW.Name || 'a' || a ( 1 ) COLLATE name" == qualify(
        "lower(A) || \"name\" || 'a' || a(1) COLLATE name", columns, lambda real: f"NEW.{real}"
    )
