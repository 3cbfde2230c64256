"""A service that scores users by a model of scikit-learn: features from the store, in one round trip a request.

featurestore export --out history.parquet
python examples/model_service.py history.parquet 8080
curl -d '{"user_ids":["user00001","nobody"]}' http://127.0.0.1:8080/score
"""

import sys
from wsgiref.simple_server import make_server

import falcon
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from featurestore import FeatureStore, FeatureTable

NAMES = ["age", "purchase_count_30d", "avg_session_duration_min", "spend_90d", "n_logins"]


class Scores:
    """`POST /score`: how likely each user is to click."""

    def __init__(self, store: FeatureStore, model: HistGradientBoostingClassifier) -> None:
        self.store, self.model = store, model

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with a score for each id, null for one that the store does not know."""
        ids = req.get_media().get("user_ids", [])
        rows = self.store.get_many(ids, NAMES)
        matrix = FeatureTable.of(ids, rows, NAMES).to_numpy()  # NaN where there is no value, as in training
        scores = self.model.predict_proba(matrix)[:, 1] if ids else []
        resp.media = {entity_id: row and float(score) for entity_id, row, score in zip(ids, rows, scores, strict=True)}


def main(history: str, port: str) -> None:
    """Train on what was exported, then serve."""
    frame = pd.read_parquet(history)
    model = HistGradientBoostingClassifier().fit(
        frame[NAMES].to_numpy(float), frame["ctr_7d"] > frame["ctr_7d"].median()
    )
    app = falcon.App()
    app.add_route("/score", Scores(FeatureStore.connect(), model))
    with make_server("127.0.0.1", int(port), app) as server:
        print(f"scores at http://127.0.0.1:{server.server_port}/score", file=sys.stderr, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 3 else __doc__)
