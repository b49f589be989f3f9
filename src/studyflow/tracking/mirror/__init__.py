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
| `calls` | the calls whose answers somebody wants |
| `for_loop` | the mirror of the runner's loop, which waits for no answer |
| `mirror` | what a runner calls |

Some daemon threads call the tracker. One works through the backlog, however long that takes. The
others make the calls whose answers the runner wants, each for a bounded time; once the tracker did
not answer, nobody asks again until the first thread has reached it. All work on values: none
touches the study, its storage or an observer, which belong to the runner's thread. And only one of
them at a time writes about one trial, so that a slow call of the one never undoes what another has
done.

The runner's loop waits for none of them (`for_loop`): it asks for all it wants, goes on, and takes
the answers in a later turn. So a slow tracker delays the trials that need it, and nothing else.
"""

from studyflow.tracking.mirror.calls import AWAITED, Awaited
from studyflow.tracking.mirror.for_loop import LoopMirror
from studyflow.tracking.mirror.mirror import Mirror, MirrorStatus

__all__ = ["AWAITED", "Awaited", "LoopMirror", "Mirror", "MirrorStatus"]
