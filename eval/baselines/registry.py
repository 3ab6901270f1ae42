"""The baselines, one line each.

To add one, write a file with a ``Baseline`` and add it to the tuple below.
"""

from eval.baselines.abmll.method import Abmll
from eval.baselines.base import Base
from eval.baselines.baseline import Baseline
from eval.baselines.labelled_lora import LabelledLora
from eval.baselines.maml import MamlEnLlm
from eval.baselines.mean import Mean
from eval.baselines.nearest import Nearest
from eval.baselines.no_meta_train import NoMetaTrain
from eval.baselines.seal.method import Seal
from eval.baselines.serl.method import Serl
from eval.baselines.text_to_lora import TextToLora
from eval.baselines.union_train import UnionTrain

BASELINES: dict[str, type[Baseline]] = {
    kind.name: kind
    for kind in (Base, NoMetaTrain, UnionTrain, Mean, Nearest, MamlEnLlm, Abmll, Serl, LabelledLora, TextToLora, Seal)
}
