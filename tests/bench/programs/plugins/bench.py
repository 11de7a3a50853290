"""What the benchmarks call: it sends back what it gets."""

from clonk_core.plugin import Activation, method


class Bench(Activation):
    """For measuring."""

    namespace = "bench"
    version = "1.0.0"

    @method(scope="read")
    async def echo(self, text: str) -> str:
        """Return the text.

        Args:
            text: Anything.
        """
        return text
