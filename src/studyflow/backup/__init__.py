"""Everything that a study cannot be rebuilt from, in one archive; see `docs/backup.md`.

| module | holds |
|---|---|
| `manifest` | pure: what an archive says of itself |
| `places` | pure: which parts there are by the settings, and where |
| `retention` | pure: names of archives, and which of them are old enough to go |
| `archive` | the tar file: written once, checked before it is used |
| `journal` `sqlite` `postgres` | a consistent copy of a storage in use, and the way back |
| `folder` | the files of a folder that somebody may be writing to |
| `in_use` | who works on what would be replaced |
| `save` `restore` | a backup, and its way back |

MLflow is copied first and the studies last, so that nothing in an archive knows of a trial that the
studies do not have: numbers are given again after a restore
([decision 18](../../../docs/decisions/0018-backups.md)).
"""

from studyflow.backup.manifest import Manifest
from studyflow.backup.places import Place, Places, find_places
from studyflow.backup.restore import check_archive, restore
from studyflow.backup.save import back_up

__all__ = ["Manifest", "Place", "Places", "back_up", "check_archive", "find_places", "restore"]
