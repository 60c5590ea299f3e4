"""Workbench: what the panels of one viewer share. It owns the session, the helper, the training and the layers."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from weakref import ref

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QObject, Signal

from napari_disentangle.gui.activity import Activity
from napari_disentangle.gui.closing import Closing
from napari_disentangle.gui.helper import Helper
from napari_disentangle.gui.layers import TomogramLayers
from napari_disentangle.gui.opening import Opening
from napari_disentangle.gui.results import Results
from napari_disentangle.gui.trainer import Trainer
from napari_disentangle.gui.training_flow import TrainingFlow
from napari_disentangle.gui.turns import Turns
from napari_disentangle.gui.worker import in_thread, sentence
from napari_disentangle.models import model_info
from napari_disentangle.session import Session, read_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_disentangle.session import RunState


class Workbench(QObject):
    """What the panels share, and how work is given away and its failures told.

    Nothing here waits: a method starts something and returns. What came of it is told by the session's signals, and by
    those of `opening`, `training` and `results`.

    Parameters
    ----------
    viewer : napari.Viewer
    """

    busy = Signal(str, float)
    """What is being done (empty: nothing) and how far it is, 0 to 1; -1 where that is not known."""
    problem = Signal(str, str)
    """Room ("particles", "training", "maps", "averages") and the sentence; an empty one takes the last one back."""
    ready = Signal(str)
    """Where training would run, in words, once the helper knows."""

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = ref(viewer)  # the viewer keeps this object, which must not keep it in turn
        self.turns = Turns(self)
        self.session = Session()
        self.helper = Helper(self)
        self.trainer = Trainer(self)
        self.activity = Activity(self.trainer)
        self.layers = TomogramLayers(
            lambda: self.viewer, lambda ids: self.session.select(ids, {"tool": "points layer"})
        )
        self.folder: Path | None = None
        """Where boxes and runs are put."""
        self.device_words = ""
        self.problems: dict[str, str] = {}
        """What `problem` said last in each room, for a panel that is built later."""
        self._told_by: dict[str, str] = {}
        """The task whose failure is told in a room, which its success takes back."""
        self.problem.connect(self._keep_problem)
        self.closed = False
        self._scratch = TemporaryDirectory(prefix="disentangle-")
        self._refreshing = False
        self._refresh_again = False
        self._doing: list[str] = []
        self.opening = Opening(self)
        self.results = Results(self)
        self.training = TrainingFlow(self)
        self.closing = Closing(self)
        self.helper.ask("warm", {}, done=self._warmed, failed=self.failing("training"))

    def _keep_problem(self, room: str, words: str) -> None:
        self.problems[room] = words
        self._told_by.pop(room, None)

    def _warmed(self, found: dict[str, Any]) -> None:
        self.device_words = found["words"]
        self.ready.emit(found["words"])

    @property
    def viewer(self) -> Any:
        """The napari viewer."""
        viewer = self._viewer()
        assert viewer is not None, "a workbench ends with its viewer"
        return viewer

    @property
    def scratch(self) -> Path:
        """A folder for what need not last."""
        return Path(self._scratch.name)

    @property
    def no_decoder(self) -> str:
        """Why no volume of the model can be shown, a sentence; empty where the model of the run has a decoder."""
        run = self.session.run
        info = None if run is None else model_info(run.recipe.model.name)
        if info is None or info.decodes:
            return ""
        return f"{info.title} has no decoder: there is no volume of the model to show."

    @property
    def no_transformation(self) -> str:
        """Why particles have no transformation to map, a sentence; empty where they have, or may get one."""
        run, codes = self.session.run, self.session.codes
        if run is None or codes is None or codes.transform.shape[1]:
            return ""
        return f"{model_info(run.recipe.model.name).title} has one code for all: there is no transformation to map."

    def ask(self, task: str, given: dict[str, Any], then: Callable[[Any], None], *, room: str, words: str) -> None:
        """Have the helper do a task of `tasks`, saying so in `words`; what goes wrong is told in `room`.

        `then` is called with its result, unless another run is shown by that time.
        """
        run = self.session.run

        def done(result: Any) -> None:
            self.leave_off(words)
            if not self.closed and self.session.run is run:
                if self._told_by.get(room) == task:
                    self.problem.emit(room, "")
                then(result)

        def failed(error: BaseException) -> None:
            self.leave_off(words)
            self.failing(room)(error)
            self._told_by[room] = task

        self.begin(words)
        self.helper.ask(task, given, done=done, failed=failed, told=self.busy.emit)

    def begin(self, words: str) -> None:
        """Say that something is being done."""
        self._doing.append(words)
        self.busy.emit(words, -1.0)

    def leave_off(self, words: str) -> None:
        """Say that it is done; what else is being done shows again."""
        if words in self._doing:
            self._doing.remove(words)
        self.busy.emit(*((self._doing[-1], -1.0) if self._doing else ("", 0.0)))

    def failing(self, room: str) -> Callable[[BaseException], None]:
        """Return what tells an exception to the user."""

        def failed(error: BaseException) -> None:
            if not self.closed:
                self.tell(room, sentence(error))

        return failed

    def tell(self, room: str, words: str) -> None:
        """Say one sentence in the panel where the cause is, and as one notification of napari's."""
        self.problem.emit(room, words)
        show_error(words)

    def notice(self, words: str) -> None:
        """Say something that is no error."""
        show_info(words)

    def refresh(self) -> None:
        """Read the run folder again; one reading at a time, and one more if something changed meanwhile."""
        run, particles = self.session.run, self.session.particles
        if run is None or self.closed:
            return
        if self._refreshing:
            self._refresh_again = True
            return
        self._refreshing = True

        def after() -> None:
            self._refreshing = False
            if self._refresh_again:
                self._refresh_again = False
                self.refresh()

        def read(state: RunState) -> None:
            self.session.refresh(state)
            after()

        def failed(error: BaseException) -> None:
            self.failing("maps")(error)
            after()

        grouping = self.session.grouping
        in_thread(lambda: read_run(run, particles, grouping=grouping or None), done=read, failed=failed)

    def close(self) -> None:
        """End everything that was started; a training of ours is asked to stop and leaves a run that can be resumed."""
        if self.closed:
            return
        self.closed = True
        self.turns.drop()
        self.trainer.end()
        self.activity.close()
        self.helper.stop()
        with suppress(OSError):  # a thread may still be reading there
            self._scratch.cleanup()
