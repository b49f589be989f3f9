"""The image of a study by its digest: a tag may be moved between trials."""

from __future__ import annotations

import logging
from collections.abc import Callable

from studyflow.executors.kubernetes.objects import repository_of

logger = logging.getLogger(__name__)


class ImagePin:
    """Learns which image a study's name for it means.

    Args:
        name: The image as the study file names it.
        pinned: The image by its digest, when an earlier run has seen which it is.
        on_image: Is told the image by its digest once the first pod shows it.
    """

    def __init__(
        self, name: str, pinned: str | None, on_image: Callable[[str], None] | None
    ) -> None:
        self._name = name
        self._on_image = on_image
        self.pinned = pinned
        """The image by its digest; `None` while nobody knows it."""

    def learn(self, image_id: str) -> None:
        """Pin the image once a node has said which it is.

        Args:
            image_id: The image as a node names it; empty while it does not.
        """
        if self.pinned is not None or "@" in self._name or "@sha256:" not in image_id:
            return
        # Docker's shim wrote `docker-pullable://` in front.
        shown = image_id.rpartition("://")[2]
        if repository_of(shown) != repository_of(self._name):
            return  # loaded by hand, or from a mirror: no name that other nodes could pull
        self.pinned = shown
        logger.info("the image %s is %s", self._name, shown)
        if self._on_image is not None:
            self._on_image(shown)
