"""Keeping a tracker up to date without ever making the runner wait for it.

The study's storage is the single source of truth. A `Mirror` only remembers what it has not sent
yet: the records that the runner handed over, and which trials' files are due. So nothing is lost
when the process dies: `sync_study`, or the next runner's `resume`, finds what is missing by asking
the tracker which trials it has completely.

| module | holds |
|---|---|
| `backlog` | what is unsent, and which task is next |
| `availability` | whether the tracker answers, and when to try again |
| `turns` | who writes about which trial at this moment |
| `sender` | how each task is done |
| `catch_up` | the thread that works through the backlog |
| `mirror` | what a runner calls |

Two daemon threads call the tracker. One works through the backlog, however long that takes. The
other makes the few calls that the runner waits for, each for a bounded time; once the tracker did
not answer, nobody waits again until the first thread has reached it. Both work on values: neither
touches the study, its storage or an observer, which belong to the runner's thread. And only one of
them at a time writes about one trial, so that a slow call of the one never undoes what the other
has done.
"""

from studyflow.tracking.mirror.mirror import Mirror, MirrorStatus

__all__ = ["Mirror", "MirrorStatus"]
