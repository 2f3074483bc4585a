"""The number of CPUs that a process may use, read from a fake proc/ and sys/."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprise import cpus

V2 = "31 23 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 32 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct\n"
OTHERS = "22 28 0:21 / /proc rw shared:5 - proc proc rw\n35 32 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


@pytest.fixture(autouse=True)
def _sixty_four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))


def write_files(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


def available_cpus(folder: Path, files: dict[str, str], **environment: str) -> int:
    return cpus.available(write_files(folder, files), environment)


def test_without_cgroups_the_affinity_mask_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_cpus(tmp_path, {}) == 64
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 7, 8})
    assert available_cpus(tmp_path, {}) == 3


def test_the_limit_that_allows_the_fewest_cpus_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    files = {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": OTHERS + V2, "sys/fs/cgroup/cpu.max": "400000 100000\n"}
    assert cpus.limit(tmp_path, {}) is None
    assert cpus.limit(write_files(tmp_path, files), {}) == "the CPU quota of the cgroup"
    assert cpus.limit(tmp_path, {"SLURM_CPUS_PER_TASK": "3"}) == "SLURM_CPUS_PER_TASK"
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 7})
    assert cpus.limit(tmp_path, {"SLURM_CPUS_PER_TASK": "3"}) == "the affinity mask"


def test_without_an_affinity_mask_all_cpus_are_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity")  # macOS
    monkeypatch.setattr("os.cpu_count", lambda: 10)
    assert available_cpus(tmp_path, {}) == 10


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("max 100000\n", 64),
        ("200000 100000\n", 2),
        ("250000 100000\n", 2),
        ("50000 100000\n", 1),
        ("9900000 100000\n", 64),
        ("", 64),
        ("rubbish\n", 64),
    ],
)
def test_cgroup_v2_quota_in_a_container_with_a_cgroup_namespace(tmp_path: Path, content: str, expected: int) -> None:
    files = {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": OTHERS + V2, "sys/fs/cgroup/cpu.max": content}
    assert available_cpus(tmp_path, files) == expected


@pytest.mark.parametrize("limited", ["a.slice", "a.slice/b.service", "a.slice/b.service/c"])
def test_a_quota_of_any_parent_cgroup_applies(tmp_path: Path, limited: str) -> None:
    files = {"proc/self/cgroup": "0::/a.slice/b.service/c\n", "proc/self/mountinfo": V2}
    files |= {f"sys/fs/cgroup/{part}/cpu.max": "max 100000" for part in ("a.slice", "a.slice/b.service", "a.slice/b.service/c")}
    assert available_cpus(tmp_path, files | {f"sys/fs/cgroup/{limited}/cpu.max": "300000 100000"}) == 3


@pytest.mark.parametrize(("quota", "expected"), [("-1", 64), ("400000", 4), ("390000", 3), ("1000", 1)])
def test_cgroup_v1_quota(tmp_path: Path, quota: str, expected: int) -> None:
    cgroup = "sys/fs/cgroup/cpu,cpuacct/user.slice"
    files = {
        "proc/self/cgroup": "12:memory:/user.slice\n4:cpu,cpuacct:/user.slice\n1:name=systemd:/user.slice\n",
        "proc/self/mountinfo": OTHERS + V1.format(root="/"),
        f"{cgroup}/cpu.cfs_quota_us": f"{quota}\n",
        f"{cgroup}/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    assert available_cpus(tmp_path, files) == expected


def test_cgroup_v1_quota_in_a_container_that_mounts_only_its_own_cgroup(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:cpu,cpuacct:/docker/0123/child\n",
        "proc/self/mountinfo": V1.format(root="/docker/0123"),
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/cpu,cpuacct/child/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu,cpuacct/child/cpu.cfs_period_us": "100000",
    }
    assert available_cpus(tmp_path, files) == 2


@pytest.mark.parametrize("path", ["/docker/0123", "/../../other"])
def test_an_unmounted_cgroup_path_falls_back_to_the_mount_point(tmp_path: Path, path: str) -> None:
    files = {"proc/self/cgroup": f"0::{path}\n", "proc/self/mountinfo": V2, "sys/fs/cgroup/cpu.max": "200000 100000"}
    assert available_cpus(tmp_path, files) == 2


def test_cgroup_v1_and_v2_side_by_side(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:cpu,cpuacct:/x\n0::/y\n",
        "proc/self/mountinfo": V1.format(root="/") + V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified "),
        "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "500000",
        "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/unified/y/cpu.max": "max 100000",
    }
    assert available_cpus(tmp_path, files) == 5


@pytest.mark.parametrize(("value", "expected"), [("8", 8), ("128", 64), ("0", 1), ("", 64), ("4(x2)", 64)])
def test_slurm_cpus_per_task_limits_the_cpus(tmp_path: Path, value: str, expected: int) -> None:
    assert available_cpus(tmp_path, {}, SLURM_CPUS_PER_TASK=value) == expected


def test_processes_share_the_available_cpus_but_srun_tasks_have_their_own(tmp_path: Path) -> None:
    assert [cpus.per_process(processes, tmp_path, {}) for processes in (1, 3, 100)] == [64, 21, 1]
    assert cpus.per_process(4, tmp_path, {"SLURM_CPUS_PER_TASK": "8"}) == 2  # one task, which starts four processes
    assert cpus.per_process(4, tmp_path, {"SLURM_CPUS_PER_TASK": "8", "SLURM_NTASKS": "4"}) == 8


@given(cgroup=st.text(), mountinfo=st.text(), limit=st.text())
def test_any_content_of_the_files_gives_a_valid_number(
    tmp_path_factory: pytest.TempPathFactory, cgroup: str, mountinfo: str, limit: str
) -> None:
    texts = {"proc/self/cgroup": f"0::/\n{cgroup}", "proc/self/mountinfo": V2 + mountinfo, "sys/fs/cgroup/cpu.max": limit}
    folder = write_files(tmp_path_factory.getbasetemp() / "fuzzed", {})
    for name, content in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode("utf-8", "replace"))
    assert 1 <= cpus.available(folder, {}) <= 64


def test_a_process_bound_to_one_cpu_has_one() -> None:
    bind = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    script = bind + "from reprise import cpus; print(cpus.available())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
