"""The contract of a backend: writes, runs and describes files of one format."""

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mobilesam_export.backends.conversion import Conversion, Settings
from mobilesam_export.backends.device import DeviceScript
from mobilesam_export.backends.simulation import Inputs, Simulation
from mobilesam_export.contract import Contract, GraphSpec
from mobilesam_export.inspection.graph import GraphDescription, Partitions
from mobilesam_export.session import Session
from mobilesam_export.target import GraphForm, Recipe

if TYPE_CHECKING:
    from mobilesam_export.graphs import Graph

Around = Callable[[str], AbstractContextManager[object]]


class Backend(Protocol):
    """One file format and what runs it.

    Subclass it, so that the members with a default answer are inherited, and name one instance in
    the entry-point group `backends.GROUP`. A backend keeps no state, and imports converters and
    runtimes inside its methods: looking a backend up costs nothing and needs none of them.

    Attributes:
        suffix: of its files (or folders), with the dot.
        has_arm_build: whether its runtime has an ARM build for Linux, which can be emulated.
        optional: whether `all` goes without its targets where its packages are not installed.
    """

    suffix: str
    has_arm_build: bool = False
    optional: bool = False

    @abstractmethod
    def parse_recipe(self, recipe: Recipe, form: GraphForm, convert: Mapping[str, Any]) -> Settings:
        """Read everything that a target says to this backend, before any work.

        Whatever can be wrong in it is found here; `convert` finds only what the graph alone can
        tell, such as a pattern that names no weight.

        Args:
            recipe: of the target.
            form: of the graphs.
            convert: the target's [convert] table with the recipe's over it.

        Raises:
            TargetError: what was expected and found, in one line.
        """
        ...

    @abstractmethod
    def convert(self, graph: "Graph", conversion: Conversion, path: Path) -> None:
        """Write one graph as one file.

        The same input gives the same bytes, where PyTorch has as many threads (see `threads`).

        Raises:
            ConversionError: the converter refused the graph.
            TargetError: the recipe names something that the graph does not have.
        """
        ...

    @abstractmethod
    def load(self, path: Path, spec: GraphSpec, device: str = "", threads: int = 0) -> Session:
        """Make a file ready to run.

        Args:
            path: the file.
            spec: the interface that it must have.
            device: a key of `devices`, or "" for the default.
            threads: CPU threads that one run may use, or 0 for the runtime's own choice.

        Raises:
            BackendError: the runtime refuses it, its interface is another, or there is no such
                device here.
            BundleError: the file is damaged.
        """
        ...

    @abstractmethod
    def describe(self, path: Path) -> GraphDescription:
        """What is in a file; nothing is run.

        Raises:
            BundleError: the file is damaged or of another format.
            BackendError: it holds what is not inspected, such as control flow.
        """
        ...

    @abstractmethod
    def runner(self) -> str:
        """What runs files on this machine, without its version."""
        ...

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Tools that decide the bytes of a file -> version. Called after a conversion."""
        ...

    def why_cannot_convert(self) -> str:
        """Why no file can be written here, with what to do; "" if it can. Imports nothing."""
        return ""

    def why_unavailable(self) -> str:
        """Why no file can be run here, with what to do; "" if it can. Imports nothing."""
        return ""

    def why_not_run(self, convert: Mapping[str, Any]) -> str:
        """Why files that were written with these options cannot be run here; "" if they can.

        Args:
            convert: the target's [convert] table with the recipe's over it, as a manifest has it.
        """
        return self.why_unavailable()

    def devices(self) -> dict[str, str]:
        """What can run files, the default first -> why not on this machine, or "" if it can."""
        return {"cpu": self.why_unavailable()}

    def partitions(self, path: Path) -> Partitions | None:
        """How the runtime's delegate cuts a file, asked of the delegate itself.

        Returns:
            None if there is no delegate to ask, or it cannot prepare the file.
        """
        return None

    def second_opinion(self, path: Path) -> Session | None:
        """A file opened by a program that shares no code with its runtime, to compare both.

        Returns:
            None if there is no such program. Its `runtime` is that of `load` where it stands in
            for a runtime that is not on this machine.
        """
        return None

    def peer(self) -> str:
        """A target of another format for the same graphs, whose own runtime is on this machine.

        Returns:
            Its name, or "" if there is none: the answers of both are compared where this backend's
            own runtime is elsewhere.
        """
        return ""

    def computes_float16(self, recipe: Recipe, form: GraphForm) -> bool:
        """Whether chips compute what the file declares, or most of it, in float16."""
        return recipe.activations == "float16"

    def raised_types(self, recipe: Recipe) -> tuple[str, ...]:
        """What exceptions of a compressed recipe may say to raise layers in precision.

        Returns:
            Words of the recipe's exceptions, the one that costs least first; the last takes a layer
            as if the recipe compressed nothing.
        """
        return ("float16",)

    def uncompressed_types(self) -> tuple[str, str]:
        """Types of weights and activations of `decoder_batch` where a recipe compresses.

        Recipes are fitted to the layers of the decoder. `decoder_batch` has others, and is written
        for speed: it keeps whole weights.
        """
        return "float16", "float16"

    def compresses(self, recipe: Recipe, graph: "Graph", name: str) -> bool:
        """Whether a compressed recipe changes a weight that it does not except.

        Args:
            recipe: with compressed weights.
            graph: in export form.
            name: of a weight of two and more axes, as in the `state_dict` of its module.
        """
        return True

    def rounded_inputs(
        self, graph: "Graph", recipe: Recipe, parsed: Settings
    ) -> Mapping[str, Inputs] | None:
        """How a file rounds what layers take, for fits, which rank layers in PyTorch.

        Args:
            graph: in export form; only names and shapes count.
            recipe: with compressed weights and activations in whole numbers.
            parsed: from `parse_recipe`.

        Returns:
            By the name of a weight, of those layers that compute in whole numbers. None if it is
            not known: then all are taken to, each map in a range of its own.
        """
        return None

    def simulation(self, graph: "Graph", recipe: Recipe, parsed: Settings) -> Simulation | None:
        """What a recipe's numbers leave of the weights and inputs of a graph's layers.

        It is made of the functions that `convert` quantises by. An encoder is trained to bear it
        (`distill --student TARGET:RECIPE`), so that it must be quick: each step rounds all weights.

        Args:
            graph: in export form; only names and shapes count.
            recipe: with compressed weights.
            parsed: from `parse_recipe`.

        Returns:
            None if this recipe cannot be simulated, or no recipe of this backend can.
        """
        return None

    def float32_islands(self, recipe: Recipe) -> tuple[str, ...]:
        """Module classes of the export form that stay float32 in a file of float16."""
        return ()

    def stepwise(self, path: Path, around: Around) -> Session | None:
        """A saved file whose float16 operations are each computed inside a context of the caller's.

        Args:
            path: the file.
            around: name of an operation -> the context that it is computed in, by torch.

        Returns:
            None if only the runtime itself can compute the file.
        """
        return None

    def device_script(self) -> DeviceScript | None:
        """How files are timed on a real device; None if there is no script for that."""
        return None

    def samples(self, contract: Contract) -> tuple[str, ...]:
        """Sample apps for bundles with this contract: folders in `bundle/samples/`, see there."""
        return ()

    def companions(self, contract: Contract, name: str) -> dict[str, str]:
        """Further files that clients of this format look for beside those of the graphs.

        Args:
            contract: of the graphs.
            name: of the target and recipe, as "TARGET-RECIPE".

        Returns:
            Their texts by name.
        """
        return {}

    def templates(self) -> Path:
        """Folder of the texts for a bundle's README, by form: PROMPT-LAYOUT.md or PROMPT.md.

        The default is the folder `templates` beside the backend's class.
        """
        return Path(inspect.getfile(type(self))).with_name("templates")
