"""All scenarios."""

from .disks import FullDisk
from .downloads import HostileDownload
from .files import DamagedFiles
from .processes import DeadRank, DeadWorker
from .recipes import Recipe
from .scenario import Scenario
from .stopping import AskedToStop, TwoWriters
from .training import FineTuning, Training
from .writers import MakeShards, StoreResized

SCENARIOS: list[Scenario] = [
    Training('mim'),
    Training('cl'),
    FineTuning(),
    MakeShards(),
    StoreResized('jpeg'),
    StoreResized('raw'),
    Recipe(),
    AskedToStop(),
    TwoWriters(),
    FullDisk(),
    DeadRank(),
    DeadWorker(),
    HostileDownload(),
    DamagedFiles(),
]
