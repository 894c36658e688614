"""The 55 reasons for which a job does not run, with the test that makes each of them."""

from __future__ import annotations

from typing import NamedTuple

EXPLAINING = "tests/worker/test_explaining.py"
REAL = "tests/worker/test_explaining_real_workers.py"
TICKS = "tests/worker/test_explaining_ticks.py"
CLOCKS = "tests/faults/test_clocks.py"
DIAGNOSIS = "tests/faults/test_diagnosis.py"


class Shown(NamedTuple):
    """A situation, the code by which ``why`` names it, and the test that makes it."""

    situation: str
    code: str
    module: str
    test: str
    without_worker: str = ""
    """Why the test needs no worker that runs. Empty if a real one runs."""


_NONE_LIVES = "The situation is that no worker lives"
_NO_ROW = "There is no row, so no worker can have a part in it"
_ROW_ALONE = "The row alone decides, before any worker looks"
_LONG = "The state is that of a server, and is seen before workers are looked at"

REASONS: dict[int, list[Shown]] = {
    1: [
        Shown("a transaction is open", "uncommitted", EXPLAINING, "test_a_job_of_a_transaction_that_is_open", _NO_ROW),
    ],
    2: [
        Shown(
            "a transaction is prepared",
            "prepared-transaction",
            EXPLAINING,
            "test_a_job_of_a_transaction_that_was_prepared",
            _NO_ROW,
        ),
    ],
    3: [
        Shown(
            "rolled back, or the id is lost to a conflict",
            "rolled-back-or-deleted",
            REAL,
            "test_an_id_that_was_lost_to_a_taken_queueing_lock",
            _NO_ROW,
        ),
    ],
    4: [
        Shown("ended and deleted", "rolled-back-or-deleted", REAL, "test_a_job_that_a_worker_has_deleted_at_its_end"),
    ],
    5: [
        Shown(
            "an id that was never given out",
            "never-given-out",
            EXPLAINING,
            "test_an_id_that_was_never_given_out",
            _NO_ROW,
        ),
    ],
    6: [
        Shown("succeeded", "succeeded", EXPLAINING, "test_a_job_that_has_succeeded"),
        Shown("failed", "failed", EXPLAINING, "test_a_job_that_has_failed_names_its_error"),
        Shown("cancelled", "cancelled", EXPLAINING, "test_a_job_that_was_cancelled", _ROW_ALONE),
        Shown("aborted", "aborted", REAL, "test_a_job_that_a_worker_has_aborted"),
        Shown("failed, task not found", "TaskNotFound", REAL, "test_a_job_that_failed_because_no_worker_knew_its_task"),
        Shown("failed, too long", "TaskTimeout", REAL, "test_a_job_that_failed_because_it_took_too_long"),
        Shown("failed, lost too often", "WorkerLost", REAL, "test_a_job_that_failed_because_it_was_lost_too_often"),
        Shown(
            "failed, result not stored",
            "InvalidResult",
            REAL,
            "test_a_job_that_failed_because_its_result_cannot_be_stored",
        ),
        Shown(
            "failed, arguments do not fit", "TypeError", REAL, "test_a_job_that_failed_because_its_arguments_do_not_fit"
        ),
        Shown(
            "failed, arguments unreadable",
            "failed",
            REAL,
            "test_a_job_that_failed_because_its_arguments_cannot_be_read",
        ),
    ],
    7: [
        Shown(
            "an old row of status aborting",
            "legacy-aborting",
            EXPLAINING,
            "test_an_old_row_of_status_aborting",
            _ROW_ALONE,
        ),
    ],
    8: [
        Shown("it runs", "runs", EXPLAINING, "test_a_job_that_runs"),
    ],
    9: [
        Shown("fetched ahead", "fetched-ahead", REAL, "test_a_job_that_a_worker_has_fetched_ahead"),
    ],
    10: [
        Shown(
            "its worker is silent", "worker-silent", REAL, "test_a_job_whose_worker_was_killed_and_the_next_of_its_lock"
        ),
    ],
    11: [
        Shown(
            "its worker is gone, or no other lives",
            "worker-gone",
            REAL,
            "test_a_job_whose_worker_was_killed_and_the_next_of_its_lock",
        ),
        Shown(
            "its worker is silent and no other lives",
            "no-worker-to-rescue",
            REAL,
            "test_a_job_whose_worker_was_killed_and_the_next_of_its_lock",
        ),
    ],
    12: [
        Shown(
            "the worker does not know of it",
            "unknown-to-worker",
            REAL,
            "test_a_job_of_which_the_worker_does_not_know_because_the_answer_was_lost",
        ),
    ],
    13: [
        Shown(
            "an abort is requested, and the task does not look",
            "abort-requested",
            EXPLAINING,
            "test_a_job_that_is_asked_to_stop_and_does_not_look",
        ),
    ],
    14: [
        Shown(
            "the outcome cannot be written",
            "outcome-unwritten",
            EXPLAINING,
            "test_a_job_whose_outcome_cannot_be_written",
        ),
    ],
    15: [
        Shown(
            "timed out, and its thread keeps the slot",
            "slots-lost",
            EXPLAINING,
            "test_a_slot_that_a_thread_keeps_after_its_timeout",
        ),
    ],
    16: [
        Shown("scheduled by the user", "scheduled", EXPLAINING, "test_a_scheduled_job", _ROW_ALONE),
    ],
    17: [
        Shown("waits for a retry", "retry-scheduled", EXPLAINING, "test_a_job_that_waits_for_its_retry"),
    ],
    18: [
        Shown("scheduled for infinity", "never-due", EXPLAINING, "test_a_job_that_never_falls_due", _ROW_ALONE),
    ],
    19: [
        Shown("the clock of the program differs", "clock-differs", CLOCKS, "test_clocks_that_differ_are_named", _LONG),
        Shown(
            "a time of another zone", "zone-suspected", EXPLAINING, "test_a_time_that_is_off_by_a_time_zone", _ROW_ALONE
        ),
    ],
    20: [
        Shown("due, and no worker lives", "no-worker", EXPLAINING, "test_a_due_job_without_a_worker", _NONE_LIVES),
    ],
    21: [
        Shown(
            "due, and all workers are full",
            "workers-full",
            REAL,
            "test_a_due_job_while_the_worker_is_full_and_others_are_due_before_it",
        ),
    ],
    22: [
        Shown(
            "the session that promotes hangs",
            "promoter-hangs",
            REAL,
            "test_a_promotion_that_hangs_while_the_worker_is_full",
        ),
    ],
    23: [
        Shown("due, and its row is locked", "row-locked", REAL, "test_a_due_job_whose_row_is_locked_under_a_worker"),
    ],
    24: [
        Shown("the row of the holder is locked", "holder-row-locked", REAL, "test_a_job_whose_holder_has_a_locked_row"),
    ],
    25: [
        Shown(
            "many are due before it",
            "promotion-backlog",
            REAL,
            "test_a_due_job_while_the_worker_is_full_and_others_are_due_before_it",
        ),
    ],
    26: [
        Shown(
            "an unknown readiness",
            "broken-readiness",
            REAL,
            "test_a_row_with_an_unknown_readiness_that_a_worker_passes_by",
        ),
    ],
    27: [
        Shown(
            "the holder of its lock runs",
            "lock-held",
            REAL,
            "test_a_job_whose_lock_a_running_job_has_and_that_later_jobs_overtake",
        ),
    ],
    28: [
        Shown(
            "the worker of the holder is dead",
            "holder-stalled",
            REAL,
            "test_a_job_whose_worker_was_killed_and_the_next_of_its_lock",
        ),
    ],
    29: [
        Shown("the holder waits itself", "holder-waits", REAL, "test_a_job_whose_lock_a_job_of_an_unserved_queue_has"),
    ],
    30: [
        Shown("the row of the holder is locked", "holder-row-locked", REAL, "test_a_job_whose_holder_has_a_locked_row"),
    ],
    31: [
        Shown("no job has the lock", "lock-orphaned", REAL, "test_a_job_that_is_parked_without_a_holder"),
    ],
    32: [
        Shown(
            "higher priorities overtake it",
            "overtaken",
            REAL,
            "test_a_job_whose_lock_a_running_job_has_and_that_later_jobs_overtake",
        ),
    ],
    33: [
        Shown("ready, and no worker lives", "no-worker", EXPLAINING, "test_a_ready_job_without_a_worker", _NONE_LIVES),
    ],
    34: [
        Shown("no worker serves the queue", "no-worker-for-queue", EXPLAINING, "test_a_queue_that_no_worker_serves"),
    ],
    35: [
        Shown("all slots are taken", "workers-full", EXPLAINING, "test_workers_that_are_full"),
        Shown("slots are lost", "slots-lost", EXPLAINING, "test_a_slot_that_a_thread_keeps_after_its_timeout"),
    ],
    36: [
        Shown("the workers stop", "workers-drain", EXPLAINING, "test_workers_that_drain"),
        Shown(
            "the worker has reached max_jobs", "workers-drain", REAL, "test_a_job_that_a_worker_at_its_max_jobs_leaves"
        ),
        Shown("the worker is a one-shot worker", "no-worker", REAL, "test_a_job_that_a_one_shot_worker_leaves"),
    ],
    37: [
        Shown("a task blocks the event loop", "loop-blocked", EXPLAINING, "test_an_event_loop_that_a_task_blocks"),
    ],
    38: [
        Shown("fetches fail", "fetches-fail", EXPLAINING, "test_fetches_that_fail"),
    ],
    39: [
        Shown("workers wait for the schema", "schema-behind", REAL, "test_a_worker_that_waits_for_the_schema"),
    ],
    40: [
        Shown("the queue is paused", "queue-paused", REAL, "test_a_job_of_a_queue_that_was_paused_under_a_worker"),
    ],
    41: [
        Shown("a limit is full", "limit-full", REAL, "test_a_job_that_waits_under_a_limit_of_a_worker"),
    ],
    42: [
        Shown("others come first", "line-in-front", REAL, "test_a_job_with_others_in_front_of_it"),
        Shown("higher priorities starve it", "overtaken", REAL, "test_a_job_with_others_in_front_of_it"),
    ],
    43: [
        Shown(
            "ready, and its row is locked", "row-locked", REAL, "test_a_ready_job_whose_row_is_locked_under_a_worker"
        ),
    ],
    44: [
        Shown("the workers poll", "not-listening", REAL, "test_a_job_of_a_worker_that_does_not_listen"),
    ],
    45: [
        Shown(
            "triggers are off",
            "triggers-off",
            REAL,
            "test_a_standing_job_of_a_database_that_has_lost_a_trigger_and_an_index",
        ),
        Shown(
            "the role of a replica",
            "replica-role",
            EXPLAINING,
            "test_triggers_that_do_not_fire_in_the_role_of_a_replica",
            _LONG,
        ),
    ],
    46: [
        Shown(
            "an index is missing",
            "index-missing",
            REAL,
            "test_a_standing_job_of_a_database_that_has_lost_a_trigger_and_an_index",
        ),
    ],
    47: [
        Shown("dead rows", "bloated", REAL, "test_a_standing_job_of_a_table_full_of_dead_rows"),
    ],
    48: [
        Shown(
            "the workers look at another database",
            "no-worker",
            REAL,
            "test_a_job_whose_workers_look_at_another_database",
        ),
        Shown("this is a standby", "standby", DIAGNOSIS, "test_a_standby_is_named_and_every_page_shows_it", _LONG),
    ],
    49: [
        Shown(
            "no connection is left",
            "connections-used-up",
            DIAGNOSIS,
            "test_connections_that_are_used_up_are_named",
            _LONG,
        ),
    ],
    50: [
        Shown(
            "no worker knows the task",
            "task-unknown",
            EXPLAINING,
            "test_a_job_that_a_worker_has_put_off_names_its_unknown_task",
        ),
    ],
    51: [
        Shown(
            "no worker was there for the tick",
            "tick-missed",
            REAL,
            "test_a_tick_that_was_too_old_when_the_worker_started",
        ),
    ],
    52: [
        Shown(
            "the schedule is in no worker's code",
            "schedule-in-no-worker",
            REAL,
            "test_a_tick_of_a_schedule_that_the_code_of_the_worker_lacks",
        ),
    ],
    53: [
        Shown(
            "the tick was skipped", "tick-skipped", REAL, "test_a_tick_that_a_worker_has_skipped_for_the_job_that_waits"
        ),
        Shown(
            "the tick was skipped, or its job deleted",
            "tick-skipped-or-deleted",
            TICKS,
            "test_a_tick_whose_job_is_gone_may_have_been_skipped",
            _ROW_ALONE,
        ),
    ],
    54: [
        Shown(
            "the queue of the tick is paused",
            "queue-paused",
            REAL,
            "test_a_tick_that_a_worker_has_skipped_for_the_job_that_waits",
        ),
    ],
    55: [
        Shown(
            "the program has caught AlreadyEnqueued",
            "rolled-back-or-deleted",
            REAL,
            "test_an_id_that_was_lost_to_a_taken_queueing_lock",
            _NO_ROW,
        ),
    ],
}
