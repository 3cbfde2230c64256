"""The service that people usually write: FastAPI and redis.asyncio, commands one by one, casting in Python."""

import json
import os
from typing import Any

import redis.asyncio
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

TEXT = {"preferred_category", "country", "device"}
INTS = {"n_logins"}
VECTORS = {"embedding"}

app = FastAPI()
client = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True, max_connections=256)


class BatchRequest(BaseModel):
    """Ids asked for together."""

    user_ids: list[str]
    features: list[str] | None = None


def cast(stored: dict[str, str]) -> dict[str, Any]:
    """Return typed features."""
    features: dict[str, Any] = {}
    for name, text in stored.items():
        if name.startswith("@"):
            continue
        if name in VECTORS:
            features[name] = json.loads(text)
        else:
            features[name] = text if name in TEXT else int(text) if name in INTS else float(text)
    return features


@app.get("/features/{user_id}")
async def get_features(user_id: str) -> dict[str, Any]:
    """Answer for one user."""
    if not await client.sismember("all_users", user_id):
        raise HTTPException(404, f"User {user_id} not found")
    stored = await client.hgetall(f"user:{user_id}:features")
    return {"user_id": user_id, "features": cast(stored)}


@app.post("/features/batch")
async def get_batch(request: BatchRequest) -> list[dict[str, Any]]:
    """Answer for many users, in one pipeline."""
    pipeline = client.pipeline(transaction=False)
    for user_id in request.user_ids:
        pipeline.sismember("all_users", user_id)
        if request.features:
            pipeline.hmget(f"user:{user_id}:features", request.features)
        else:
            pipeline.hgetall(f"user:{user_id}:features")
    replies = await pipeline.execute()
    if request.features:
        replies[1::2] = [dict(zip(request.features, values, strict=True)) for values in replies[1::2]]
    return [
        {"user_id": user_id, "features": cast(stored) if known else None}
        for user_id, known, stored in zip(request.user_ids, replies[::2], replies[1::2], strict=True)
    ]
