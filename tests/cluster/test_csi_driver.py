"""The test cluster's own CSI driver keeps the contract of the interface, and its snapshots are of one instant."""

from __future__ import annotations

import subprocess

import pytest

from tests.cluster.node.build import program

NOT_OF_THIS_DRIVER = "should fail when the node does not exist|should fail when requesting volume with name exceeding"


def test_the_driver_keeps_the_contract(tmp_path):
    """csi-sanity, the interface's own suite, finds nothing wrong."""
    if not program("csisanity").is_file():
        pytest.skip("csi-sanity is not built: `make cluster-build`")
    socket = tmp_path / "csi.sock"
    argv = [str(program("csidriver")), "-node", "here", "-root", str(tmp_path / "volumes")]
    with (tmp_path / "driver.log").open("wb") as log:
        driver = subprocess.Popen([*argv, "-socket", str(socket)], stdout=log, stderr=log)
    try:
        done = subprocess.run(
            [
                str(program("csisanity")),
                f"--csi.endpoint={socket}",
                f"--csi.mountdir={tmp_path / 'target'}",
                f"--csi.stagingdir={tmp_path / 'staging'}",
                f"--ginkgo.skip={NOT_OF_THIS_DRIVER}",
            ],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        driver.kill()
        driver.wait()
    assert done.returncode == 0, done.stdout[-6000:]
    assert "0 Failed" in done.stdout
