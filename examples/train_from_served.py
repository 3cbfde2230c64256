"""Train a model on what its service was really served.

python train_from_served.py SERVED.parquet LABELS.csv

SERVED.parquet comes from `featurestore export --served SERVICE`. LABELS.csv has two columns, request_id and label:
what became of each request, as it turned out later.
"""

import sys

import pandas as pd
import pyarrow.parquet as pq
from sklearn.ensemble import HistGradientBoostingClassifier


def main(served_path: str, labels_path: str) -> None:
    """Join what was served with what became of it, train, and tell how well that fits."""
    served = pq.read_table(served_path).to_pandas()
    labels = pd.read_csv(labels_path)
    rows = served.merge(labels, left_on="@request_id", right_on="request_id")
    names = [name for name in served if "@" not in name and pd.api.types.is_numeric_dtype(served[name])]
    model = HistGradientBoostingClassifier(max_iter=20).fit(rows[names], rows["label"])
    late = (rows[[f"{name}@status" for name in names]] == "STALE").to_numpy().mean()
    print(f"{len(rows)} of {len(served)} rows have a label; {late:.1%} of the values were stale when they were served")
    print(f"trained on {', '.join(names)}: accuracy {model.score(rows[names], rows['label']):.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
