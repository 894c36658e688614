"""Operations that follow indexes leave the session's settings as they were."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from procrastinate.core.inspection.bounds import along_indexes


def _settings(connection: sa.Connection) -> tuple[str, ...]:
    names = ("jit", "enable_sort", "enable_hashjoin", "enable_mergejoin")
    return tuple(connection.execute(sa.text(f"SHOW {name}")).scalar_one() for name in names)


def test_the_settings_of_the_users_transaction_return(engine: sa.Engine) -> None:
    with engine.begin() as transaction:
        before = _settings(transaction)
        with along_indexes(transaction):
            assert _settings(transaction) != before
        assert _settings(transaction) == before


def test_an_error_in_the_block_does_not_leave_the_settings_behind(engine: sa.Engine) -> None:
    with engine.begin() as transaction:
        before = _settings(transaction)
        with pytest.raises(KeyboardInterrupt), along_indexes(transaction):
            raise KeyboardInterrupt
        assert _settings(transaction) == before
