"""The kernels of the demo's pages: those whose page is gone end, those that only start are let."""

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager


class PageKernels(AsyncMappingKernelManager):
    """Jupyter's own, which ends idle kernels that no page is connected to, and would count those as idle that
    need long to start on a busy machine."""

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        if self.get_kernel(kernel_id).execution_state != "starting":
            await super().cull_kernel_if_idle(kernel_id)
