"""Decide: an explicit-state search over who may write (protocol section 8): every interleaving within a bound.

Two files, each written on whichever side takes writes; attempts to switch, to return and to recover, each a process that
may stop for ever or for a while between any two of its steps (not being scheduled is both), so that a stale process of an
earlier attempt is any process that others have overtaken. The daemons that apply the two streams remember what they
read, too. `Rules` takes one rule out at a time.

A replay sets the sink of a file back to a checkpoint: what it applied since it applies again, as one step to a state that
holds everything up to `goal`. A checkpoint is the beginning of the model, the oldest there is.

What must hold in every state:
- no file can be written on both sides;
- a side that can be written holds every write that was ever acknowledged for that file;
- no file carries a fence that is older than the last lift that visited it: nobody would ever lift it;
- a target that calls itself consistent lacks nothing of what it has shown;
- no file that was put back can be written before all are.
A restore puts a file back to what it was in the beginning; what was acknowledged and shown until then is given up.

    python -m tests.model.cutover_search [--writes 3] [--switches 2] [--returns 1] [--recoveries 1] [--replays 0] [--restores 0]
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

FILES = (0, 1)
SOURCE, TO_TARGET, TARGET, TO_SOURCE, RESTORING = range(5)
"""The last: to_source, and the row says that a restore leads on from there."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The protocol; a test takes out one at a time."""

    recovery_drains: bool = True
    """Recovery in to_source finishes the drain; without: it just lifts."""
    open_checks_token: bool = True
    reverse_start_in_open: bool = True
    guard_by_ddl: bool = True
    """Closing the target waits for writers that have passed its check; without: an epoch row that they read."""
    lift_writes_token: bool = True
    """A lift raises the token also where nothing was fenced."""
    row_before_lift: bool = True
    """Taking back moves the row first, then lifts."""
    apply_checks_phase: bool = True
    """The sink applies only while writes belong to the sources, or are on their way from them."""
    replay_holds_row: bool = True
    """A replay sets the sinks back under the token whose sources it read; without: whatever the row says by then."""
    replay_to_head: bool = True
    """It is not over below the head of the source's log, where what the target changed is logged; without: below what was
    applied last time, which sends older states over newer ones."""
    restored_is_fenced: bool = True
    """What takes a file's place carries the fence."""
    restored_rests: bool = True
    """The way back brings nothing to a file that was put back."""
    restore_stays: bool = True
    """No recovery ends a restore."""
    restore_holds_the_row: bool = True
    """A file is put back only while the restore is what the row says; without: one that slept does it later."""
    taken_up_by_token: bool = True
    """The way back goes on from a label only where no later attempt has fenced the file."""


class Process(NamedTuple):
    """One attempt. `pc` names the step that comes next; `token` is what it claimed or read."""

    kind: str
    pc: str
    token: int = 0
    goal: tuple[int, int] = (0, 0)
    """What a replay has read of the sources."""


class State(NamedTuple):
    authority: int
    token: int
    open: bool
    reverse_from: tuple[int, int]
    """Per file: how many of the target's own writes lay before the stored snapshot; (-1, -1): not stored yet."""
    fence: tuple[int, int]
    """Token of the fence a file carries; 0: none."""
    carried: tuple[int, int]
    """Highest token a file has seen."""
    lifted: tuple[int, int]
    """Ghost: token of the last lift that visited the file."""
    source: tuple[int, int]
    """Bit mask of the writes that the file holds."""
    target: tuple[int, int]
    log: tuple[tuple[int, ...], tuple[int, ...]]
    """The target's own writes, in order."""
    acked: tuple[int, int]
    passed: tuple[bool, bool]
    """A writer of the target has passed the check and has not written yet."""
    back: tuple[int, int]
    """Token of the fence that the sink of the way back remembers; 0: it has not claimed."""
    applied: tuple[int, int]
    """What the sink of a file applied last: the state below `highest`."""
    again: tuple[int, int]
    """What the sink of a file that was set back must hold before it calls itself consistent; -1: it was not."""
    shown: tuple[int, int]
    """Ghost: what the target of a file has shown while it was consistent, or open."""
    rests: tuple[bool, bool]
    """The file was put back, and rests above every label."""
    writes: int
    processes: tuple[Process, ...]


def put(pair: tuple[int, int], at: int, value: int) -> tuple[int, int]:
    return (value, pair[1]) if at == 0 else (pair[0], value)


def initial(switches: int, returns: int, recoveries: int, replays: int = 0, restores: int = 0) -> State:
    made = (
        [Process("switch", "read")] * switches
        + [Process("return", "read")] * returns
        + [Process("recover", "read")] * recoveries
        + [Process("replay", "read")] * replays
        + [Process("restore", "read")] * restores
    )
    return State(
        SOURCE, 0, False, (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), ((), ()), (0, 0), (False, False), (0, 0),
        (0, 0), (-1, -1), (0, 0), (False, False), 0, tuple(sorted(made)),
    )  # fmt: skip


def wrong(state: State) -> str:
    """What is broken in this state; empty: nothing."""
    for at in FILES:
        at_source = state.fence[at] == 0
        if at_source and state.open:
            return "two sides can be written"
        if at_source and state.rests[at] and state.authority == RESTORING:
            return "a file can be written in the middle of a restore"
        if at_source and state.source[at] != state.acked[at]:
            return "the source can be written and lacks an acknowledged write"
        if state.open and state.target[at] != state.acked[at]:
            return "the target can be written and lacks an acknowledged write"
        if state.fence[at] and state.fence[at] < state.lifted[at]:
            return "a fence of an overtaken attempt stands"
        if state.again[at] < 0 and state.shown[at] & ~state.target[at]:
            return "the target calls itself consistent and lacks what it has shown"
    return ""


def successors(state: State, rules: Rules, max_writes: int) -> Iterator[tuple[str, State]]:
    yield from _writers(state, rules, max_writes)
    yield from _streams(state, rules)
    for at, process in enumerate(state.processes):
        if process.pc == "done":
            continue
        for label, after, changed in _STEPS[process.kind](state, process, rules):
            processes = (*state.processes[:at], after, *state.processes[at + 1 :])
            # Processes of one kind are alike: their order says nothing.
            yield f"{process.kind}: {label}", changed._replace(processes=tuple(sorted(processes)))


def _showing(state: State) -> State:
    """What the target holds now is seen by readers, unless it says that it is on its way."""
    for at in FILES:
        if state.again[at] < 0 or state.open:
            state = state._replace(shown=put(state.shown, at, state.shown[at] | state.target[at]))
    return state


def _writers(state: State, rules: Rules, max_writes: int) -> Iterator[tuple[str, State]]:
    for at in FILES:
        bit = 1 << state.writes
        if state.fence[at] == 0 and state.writes < max_writes:
            yield (
                f"write {at} at the source",
                state._replace(
                    source=put(state.source, at, state.source[at] | bit),
                    acked=put(state.acked, at, state.acked[at] | bit),
                    writes=state.writes + 1,
                ),
            )
        if state.open and not state.passed[at]:
            yield f"a writer of {at} passes the target's check", state._replace(passed=_flag(state.passed, at, on=True))
        if state.passed[at] and state.writes < max_writes:
            # By DDL a writer that passed holds its table until it has written: `close` waits for it.
            yield (
                f"write {at} at the target",
                state._replace(
                    target=put(state.target, at, state.target[at] | bit),
                    acked=put(state.acked, at, state.acked[at] | bit),
                    log=_logged(state.log, at, bit),
                    passed=_flag(state.passed, at, on=False),
                    shown=put(state.shown, at, state.shown[at] | bit),
                    writes=state.writes + 1,
                ),
            )


def _flag(pair: tuple[bool, bool], at: int, *, on: bool) -> tuple[bool, bool]:
    return (on, pair[1]) if at == 0 else (pair[0], on)


def _logged(log: tuple[tuple[int, ...], tuple[int, ...]], at: int, bit: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return ((*log[0], bit), log[1]) if at == 0 else (log[0], (*log[1], bit))


def _streams(state: State, rules: Rules) -> Iterator[tuple[str, State]]:
    for at in FILES:
        open_to_it = state.authority in (SOURCE, TO_TARGET) or not rules.apply_checks_phase
        if open_to_it and state.again[at] < 0 and state.target[at] != state.source[at]:
            yield f"apply {at} forward", _applied(state, at, state.source[at])
        if open_to_it and state.again[at] >= 0:
            # Its one step ends at any watermark from the goal on.
            for upto in {state.again[at], state.source[at]}:
                yield f"replay {at}", _applied(state._replace(again=put(state.again, at, -1)), at, upto)
        if state.fence[at] and state.back[at] != state.fence[at] and state.authority in (TARGET, TO_SOURCE, RESTORING):
            yield f"the way back of {at} claims", state._replace(back=put(state.back, at, state.fence[at]))
        if state.rests[at] and rules.restored_rests:
            continue
        if state.back[at] and state.fence[at] == state.back[at] == state.carried[at] and state.reverse_from[at] >= 0:
            own = 0
            for bit in state.log[at][state.reverse_from[at] :]:
                own |= bit
            if state.source[at] | own != state.source[at]:
                yield f"apply {at} back", state._replace(source=put(state.source, at, state.source[at] | own))


def _applied(state: State, at: int, mask: int) -> State:
    """The apply's compare-and-set is on the phase as well."""
    changed = state._replace(target=put(state.target, at, mask), applied=put(state.applied, at, mask))
    lacks = changed.shown[at] & ~mask
    return changed if lacks else _showing(changed)


Steps = Iterator[tuple[str, Process, State]]


def _lift(state: State, token: int, at: int, rules: Rules) -> State | None:
    """None: a later token is there already."""
    if state.carried[at] > token:
        return None
    fenced = state.fence[at] != 0
    raised = token if fenced or rules.lift_writes_token else state.carried[at]
    return state._replace(
        fence=put(state.fence, at, 0), carried=put(state.carried, at, raised), lifted=put(state.lifted, at, token)
    )


def _lifting(state: State, process: Process, rules: Rules) -> Steps:
    at = int(process.pc[-1])
    done = _lift(state, process.token, at, rules)
    following = process._replace(pc="lift1") if at == 0 else process._replace(pc="done")
    if done is None:
        yield "stops", process._replace(pc="done"), state
    else:
        yield f"lifts {at}", following, done


def _lift_alone(state: State, process: Process, rules: Rules) -> Steps:
    """The owner of a switch that cannot reach the row lifts and ends, before it has ever asked to open."""
    lifted: State | None = state
    for at in FILES:
        lifted = _lift(lifted, process.token + 1, at, rules) if lifted else None
    if lifted is not None:
        yield "lifts alone", process._replace(pc="done"), lifted


def _take_back(state: State, process: Process, rules: Rules) -> Steps:
    """(to_target, n) -> (source, n + 1), then lift."""
    if not rules.row_before_lift:
        lifted: State | None = state
        for at in FILES:
            lifted = _lift(lifted, process.token + 1, at, rules) if lifted else None
        if lifted is not None:
            yield "lifts first", process._replace(pc="late"), lifted
        return
    if (state.authority, state.token) == (TO_TARGET, process.token):
        moved = state._replace(authority=SOURCE, token=state.token + 1)
        yield "takes back", process._replace(pc="lift0", token=state.token + 1), moved
    else:
        yield "was overtaken", process._replace(pc="done"), state


def _late(state: State, process: Process) -> Steps:
    if (state.authority, state.token) == (TO_TARGET, process.token):
        moved = state._replace(authority=SOURCE, token=state.token + 1)
        yield "moves the row last", process._replace(pc="done"), moved
    else:
        yield "was overtaken", process._replace(pc="done"), state


def _switch(state: State, process: Process, rules: Rules) -> Steps:
    match process.pc:
        case "read":
            if state.authority == SOURCE:
                label = (len(state.log[0]), len(state.log[1]))
                prepared = _taken_up(state, state.token, label, rules)
                yield "reads the row", process._replace(pc="claim", token=state.token), prepared
        case "claim":
            if (state.authority, state.token) == (SOURCE, process.token):
                moved = state._replace(authority=TO_TARGET, token=state.token + 1)
                yield "claims", process._replace(pc="fence0", token=state.token + 1), moved
            else:
                yield "was overtaken", process._replace(pc="done"), state
        case "fence0" | "fence1":
            at = int(process.pc[-1])
            if state.carried[at] < process.token:
                fenced = state._replace(
                    fence=put(state.fence, at, process.token), carried=put(state.carried, at, process.token)
                )
                yield f"fences {at}", process._replace(pc="fence1" if at == 0 else "drain"), fenced
            else:
                yield "was overtaken", process._replace(pc="done"), state
            yield from _take_back(state, process, rules)
            yield from _lift_alone(state, process, rules)
        case "drain":
            if state.source == state.target and state.again == (-1, -1):
                yield "sees it drained", process._replace(pc="open"), state
            yield from _take_back(state, process, rules)
            yield from _lift_alone(state, process, rules)
        case "open":
            token_right = state.token == process.token or not rules.open_checks_token
            if state.authority == TO_TARGET and token_right:
                start = (len(state.log[0]), len(state.log[1])) if rules.reverse_start_in_open else (-1, -1)
                opened = state._replace(authority=TARGET, token=state.token + 1, open=True, reverse_from=start)
                following = "done" if rules.reverse_start_in_open else "start"
                yield "opens", process._replace(pc=following), opened
            else:
                yield "was overtaken", process._replace(pc="done"), state
            yield from _take_back(state, process, rules)
        case "start":
            start = (len(state.log[0]), len(state.log[1]))
            yield "stores the reverse start", process._replace(pc="done"), state._replace(reverse_from=start)
        case "late":
            yield from _late(state, process)
        case "lift0" | "lift1":
            yield from _lifting(state, process, rules)


def _return(state: State, process: Process, rules: Rules) -> Steps:
    match process.pc:
        case "read":
            if state.authority == TARGET:
                yield "reads the row", process._replace(pc="close", token=state.token), state
        case "close":
            if (state.authority, state.token) != (TARGET, process.token):
                yield "was overtaken", process._replace(pc="done"), state
            elif not rules.guard_by_ddl or not any(state.passed):
                closed = state._replace(authority=TO_SOURCE, token=state.token + 1, open=False)
                yield "closes the target", process._replace(pc="drain", token=state.token + 1), closed
        case "drain" | "back" | "lift0" | "lift1":
            yield from _finish(state, process, rules)


def _finish(state: State, process: Process, rules: Rules) -> Steps:
    match process.pc:
        case "drain":
            if all(_has_all(state, at) for at in FILES):
                yield "sees it drained", process._replace(pc="back"), state
        case "back":
            if state.authority in (TO_SOURCE, RESTORING) and state.token == process.token:
                moved = state._replace(authority=SOURCE, token=state.token + 1)
                yield "returns", process._replace(pc="lift0", token=state.token + 1), moved
            else:
                yield "was overtaken", process._replace(pc="done"), state
        case _:
            yield from _lifting(state, process, rules)


def _has_all(state: State, at: int) -> bool:
    """What a drain can see: everything in the target's log behind the stored start is at the source."""
    if state.reverse_from[at] < 0:
        return True
    own = 0
    for bit in state.log[at][state.reverse_from[at] :]:
        own |= bit
    return state.source[at] | own == state.source[at]


def _recover(state: State, process: Process, rules: Rules) -> Steps:
    match process.pc:
        case "read":
            if state.authority == TO_TARGET:
                yield "finds an abandoned switch", process._replace(pc="take", token=state.token), state
            if state.authority == TO_SOURCE:
                following = "drain" if rules.recovery_drains else "back"
                yield "finds an abandoned return", process._replace(pc=following, token=state.token), state
            if state.authority == RESTORING and not rules.restore_stays:
                yield "finds an abandoned restore", process._replace(pc="back", token=state.token), state
        case "take":
            yield from _take_back(state, process, rules)
        case "late":
            yield from _late(state, process)
        case _:
            yield from _finish(state, process, rules)


def _replay(state: State, process: Process, rules: Rules) -> Steps:
    match process.pc:
        case "read":
            if state.authority == SOURCE and state.again == (-1, -1):
                yield "reads the row", process._replace(pc="touch", token=state.token), state
        case "touch":
            # Between the two nothing is held: a whole switch and its return may come in between.
            goal = state.source if rules.replay_to_head else state.applied
            yield "reads the heads", process._replace(pc="rewind", goal=goal), state
        case "rewind":
            mine = (state.authority, state.token) == (SOURCE, process.token)
            if mine or not rules.replay_holds_row:
                goal = (process.goal[0] | state.applied[0], process.goal[1] | state.applied[1])
                yield "sets the sinks back", process._replace(pc="done", goal=(0, 0)), state._replace(again=goal)
            else:
                yield "was overtaken", process._replace(pc="done", goal=(0, 0)), state


def _restore(state: State, process: Process, rules: Rules) -> Steps:
    mine = (state.authority, state.token) == (RESTORING, process.token)
    match process.pc:
        case "read":
            if state.authority in (SOURCE, TARGET, TO_SOURCE):
                yield "reads the row", process._replace(pc="claim", token=state.token), state
            if state.authority == RESTORING:
                yield "goes on with it", process._replace(pc="shut0", token=state.token), state
        case "claim":
            if state.token != process.token or state.authority not in (SOURCE, TARGET, TO_SOURCE):
                yield "was overtaken", process._replace(pc="done"), state
            elif not any(state.passed):
                closed = state._replace(authority=RESTORING, token=state.token + 1, open=False)
                yield "closes everything", process._replace(pc="shut0", token=state.token + 1), closed
        case "shut0" | "shut1":
            at = int(process.pc[-1])
            if state.carried[at] > process.token or (state.carried[at] == process.token and not state.fence[at]):
                yield "was overtaken", process._replace(pc="done"), state
            else:
                shut = state._replace(
                    fence=put(state.fence, at, process.token), carried=put(state.carried, at, process.token)
                )
                yield f"shuts {at}", process._replace(pc="shut1" if at == 0 else "put0"), shut
        case "put0" | "put1":
            at = int(process.pc[-1])
            following = process._replace(pc="put1" if at == 0 else "back")
            if rules.restore_holds_the_row and not mine:
                yield "was overtaken", process._replace(pc="done"), state
            elif state.rests[at]:
                yield f"finds {at} put back", following, state
            else:
                back = state._replace(
                    source=put(state.source, at, 0),
                    acked=put(state.acked, at, 0),
                    fence=put(state.fence, at, process.token if rules.restored_is_fenced else 0),
                    carried=put(state.carried, at, process.token),
                    rests=_flag(state.rests, at, on=True),
                )
                yield f"puts {at} back", following, back
        case "back":
            if mine:
                # The target is not consistent until it has what undoes the lost history.
                moved = state._replace(authority=SOURCE, token=state.token + 1, again=(0, 0), shown=(0, 0))
                yield "gives it to the sources", process._replace(pc="label", token=state.token + 1), moved
            else:
                yield "was overtaken", process._replace(pc="done"), state
        case "label":
            pc = f"take {len(state.log[0])} {len(state.log[1])}"
            yield "reads the label", process._replace(pc=pc), state
        case "lift0" | "lift1":
            yield from _lifting(state, process, rules)
        case _:
            label = tuple(map(int, process.pc.split()[1:]))
            yield "takes up the way back", process._replace(pc="lift0"), _taken_up(state, process.token, label, rules)


def _taken_up(state: State, token: int, label: tuple[int, ...], rules: Rules) -> State:
    """What the target's log held up to this label is passed over. A file that a later attempt has fenced is left alone."""
    for at in FILES:
        if state.rests[at] and (state.carried[at] <= token or not rules.taken_up_by_token):
            reverse_from = put(state.reverse_from, at, label[at])
            state = state._replace(rests=_flag(state.rests, at, on=False), reverse_from=reverse_from)
    return state


_STEPS = {"switch": _switch, "return": _return, "recover": _recover, "replay": _replay, "restore": _restore}


@dataclass(frozen=True, slots=True)
class Found:
    """The end of a search. `trace`: the steps to the first wrong state."""

    states: int
    complete: bool
    what: str = ""
    trace: tuple[str, ...] = ()
    labels: frozenset[str] = frozenset()
    """Every step that was taken somewhere: what never happens in the model is not shown by it."""


def search(
    rules: Rules = Rules(),
    *,
    writes: int = 2,
    switches: int = 2,
    returns: int = 1,
    recoveries: int = 1,
    replays: int = 0,
    restores: int = 0,
    at_most: int = 5_000_000,
) -> Found:
    """Breadth first, so that a trace is a shortest one."""
    first = initial(switches, returns, recoveries, replays, restores)
    came: dict[State, tuple[State, str] | None] = {first: None}
    left = deque([first])
    labels: set[str] = set()
    while left:
        state = left.popleft()
        for label, after in successors(state, rules, writes):
            labels.add(label)
            if after in came:
                continue
            came[after] = (state, label)
            if what := wrong(after):
                return Found(len(came), complete=False, what=what, trace=tuple(_trace(came, after)))
            if len(came) >= at_most:
                return Found(len(came), complete=False, what="")
            left.append(after)
    return Found(len(came), complete=True, labels=frozenset(labels))


def _trace(came: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    steps = []
    while (step := came[state]) is not None:
        state, label = step
        steps.append(label)
    return steps[::-1]


def without(rule: str) -> Rules:
    assert rule in {field.name for field in fields(Rules)}
    return replace(Rules(), **{rule: False})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("writes", 3),
        ("switches", 2),
        ("returns", 1),
        ("recoveries", 1),
        ("replays", 0),
        ("restores", 0),
        ("at-most", 20_000_000),
    ):
        options.add_argument(f"--{name}", type=int, default=default)
    chosen = options.parse_args()
    found = search(
        writes=chosen.writes,
        switches=chosen.switches,
        returns=chosen.returns,
        recoveries=chosen.recoveries,
        replays=chosen.replays,
        restores=chosen.restores,
        at_most=chosen.at_most,
    )
    print(f"{found.states:,} states, {'all of them' if found.complete else 'cut off'}: {found.what or 'nothing wrong'}")
    for step in found.trace:
        print(f"  {step}")


if __name__ == "__main__":
    main()
