"""Every rule that the protocol rests on names the test that fails without it; the names are checked, so none can get lost."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CUT, TAIL, POSITION = "unit/capture/test_cut.py", "unit/capture/test_tail.py", "unit/capture/test_position.py"
PUBLISH, PRUNE, CASES = (
    "unit/capture/test_publish.py",
    "unit/capture/test_prune.py",
    "integration/test_protocol_cases.py",
)
COLLAPSE, MODEL, TRIGGERS = "unit/sink/test_collapse.py", "model/test_rules.py", "model/test_triggers.py"
IDENTITY = "integration/test_stream_identity.py"
KILL, OUTAGE, COPY = "faults/test_kill.py", "faults/test_outage.py", "integration/test_copy.py"

RULES: dict[str, tuple[str, ...]] = {
    # labels and positions
    "a record carries the head of the view in which its row was read": (
        f"{CUT}::test_a_row_is_labelled_with_the_head_and_not_with_its_entry",
        f"{TAIL}::test_label_below_the_state",
        f"{MODEL}::label is the entry's seq",
    ),
    "a lower label never wins": (
        f"{COLLAPSE}::test_lower_label_never_wins",
        f"{CASES}::test_a_lower_label_never_wins",
        f"{CASES}::test_without_labels_the_last_to_arrive_would_win",
    ),
    "equal keys share a partition, a partition count never changes": (
        "contract/test_transport.py::test_equal_keys_share_a_partition",
        "contract/test_transport.py::test_create_is_idempotent_and_never_changes_the_partition_count",
    ),
    "an end below the known offsets is refused": (
        f"{CASES}::test_stream_that_lost_its_end_is_refused",
        f"{IDENTITY}::test_a_stream_that_lost_what_was_acknowledged_is_refused",
    ),
    "a topic that was made again is another one": (
        f"{IDENTITY}::test_a_topic_made_again_that_outgrew_the_old_offset_is_refused",
        f"{IDENTITY}::test_a_watermark_of_topics_that_are_gone_closes_no_cut",
        f"{IDENTITY}::test_ids_of_a_topic_that_was_made_again_are_refused",
    ),
    # capture
    "a watermark only where a chunk's view held no more entries": (
        f"{TAIL}::test_no_watermark_before_the_head_is_reached",
        f"{MODEL}::watermark before the head, and no look at labels",
    ),
    "watermark ends are listed once and rise only by own acknowledgements": (
        f"{PUBLISH}::test_ends_begin_with_what_the_topic_held_and_rise_with_our_own",
        f"{TAIL}::test_watermark_ends_are_not_listed_at_watermark_time",
        f"{CASES}::test_watermark_ends_are_not_listed_at_watermark_time",
    ),
    "the start is the highest remaining watermark or what was pruned": (
        f"{POSITION}::test_the_last_watermark_is_the_position",
        f"{POSITION}::test_pruned_to_is_the_position_where_the_stream_knows_less",
    ),
    "the first entry follows the position, a gap at the start is refused": (
        "unit/capture/test_chunk.py::test_the_first_entry_must_follow_the_position",
        f"{POSITION}::test_a_gap_above_the_position_is_refused",
    ),
    "pruning stays below the row of the acknowledged watermark": (
        f"{PRUNE}::test_the_row_of_the_watermark_stays",
        f"{PRUNE}::test_nothing_above_the_watermark_goes",
    ),
    "a different row at the known seq is a fork": (
        f"{POSITION}::test_another_entry_at_the_known_seq_is_a_fork",
        "faults/test_history.py::test_older_copy_restored_and_written_past_the_known_position",
    ),
    "what is sent was synced first": (
        "faults/test_power_loss.py::test_nothing_lost_and_no_phantom_row",
        "faults/test_power_loss.py::test_torn_and_dropped_writes",
    ),
    "the schema version is read with the rows": (
        "unit/snapshot/test_slices.py::test_nothing_is_given_of_a_view_whose_schema_moved",
    ),
    "our own objects are not part of the fingerprint": (
        "unit/capture/test_install.py::test_a_second_install_changes_nothing",
    ),
    "one capture a database, one sink a source": (
        f"{KILL}::test_second_capture_and_second_sink_refuse_naming_the_first",
    ),
    "a row that cannot be captured travels as quarantined": (
        f"{TAIL}::test_a_row_above_the_limit_is_quarantined_by_key",
    ),
    "a heartbeat moves only offsets and time": (f"{CASES}::test_heartbeat_only_moves_offsets_and_time",),
    # apply
    "floors are kept per table": (
        f"{CASES}::test_held_table_loses_a_change",
        f"{MODEL}::one floor per source",
        f"{MODEL}::no floor",
    ),
    "a record at the floor is ignored": (f"{COLLAPSE}::test_record_at_the_floor_is_ignored",),
    "consistent only above the head of every copy's last view": (f"{MODEL}::copy counts at once",),
    "the first statement of an apply is a compare-and-set": (
        f"{CASES}::test_zombie_sink_moves_applied_back",
        f"{CASES}::test_zombie_apply_itself_loses_its_compare_and_set",
        f"{OUTAGE}::test_sink_paused_past_its_lease_cannot_write",
    ),
    "a large cut counts only with its last slice": (f"{KILL}::test_killed_between_two_slices_of_a_large_cut",),
    "touched keys of a unique table go first": (f"{CASES}::test_swapped_unique_values",),
    "a violation against an untouched key is divergence": (
        f"{CASES}::test_unique_violation_against_an_untouched_key_is_divergence",
    ),
    "an unknown commit is read, not guessed": (
        f"{CASES}::test_lost_commit_reply",
        f"{CASES}::test_connection_lost_at_commit_is_unknown",
    ),
    # copy
    "the floor is read before the first view opens": (f"{CASES}::test_hold_too_late",),
    "a merge never shows an empty table": (f"{CASES}::test_readers_never_see_an_empty_table",),
    "views of one copy may disagree about a unique value": (
        f"{COPY}::test_a_unique_value_that_moves_while_its_table_is_copied_again",
    ),
    "what the copy writes is durable at the source first": (
        f"{COPY}::test_the_source_is_durable_before_its_floor_or_its_rows_are_written",
    ),
    # rewind
    "nothing below the highest applied seq is consistent": (f"{CASES}::test_rewind_is_not_consistent",),
    "a replay passes through no older state": ("integration/test_replay.py::test_a_replay_steps_over_older_states",),
    "keys that only the target ever saw are touched": (
        "integration/test_replay.py::test_a_replay_after_a_rollback_removes_what_only_the_target_has",
    ),
    "a checkpoint older than the window is refused": (
        "integration/test_replay.py::test_a_checkpoint_older_than_the_window_is_refused",
    ),
    "a copy ends older checkpoints of its table": ("integration/test_replay.py::test_a_copy_ends_older_checkpoints",),
    "a tombstone outlives the replay window": (
        "unit/adapters/test_locallog.py::test_a_tombstone_outlives_its_key_by_the_retention",
    ),
    # triggers
    "BEFORE triggers look for displaced rows": (f"{TRIGGERS}::before",),
    "a NOT NULL default is matched as it will be stored": (f"{TRIGGERS}::default_of_not_null",),
    "generated columns are expanded": (f"{TRIGGERS}::expand_generated",),
    "the key of a table without an INTEGER PRIMARY KEY is looked for too": (f"{TRIGGERS}::key_too",),
    "the rowid beside a declared key is looked for too": (f"{TRIGGERS}::rowid_too",),
    "the key a row had before is logged": (f"{TRIGGERS}::old_key",),
    "1 and 1.0 are two keys": (f"{TRIGGERS}::typeof_key",),
    "the collation stands on the left operand": (f"{TRIGGERS}::collate",),
    "ours are created last and fire first": ("unit/capture/test_install.py::test_ours_fire_first",),
    "create-copy-drop-rename is copied again": ("integration/test_hard_cases.py::create, copy, drop, rename",),
}


@pytest.mark.parametrize("rule", list(RULES))
def test_a_rule_names_tests_that_exist(rule: str) -> None:
    assert RULES[rule]
    for test in RULES[rule]:
        file, _, name = test.partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert f"def {name}(" in text or f'"{name}"' in text, test
