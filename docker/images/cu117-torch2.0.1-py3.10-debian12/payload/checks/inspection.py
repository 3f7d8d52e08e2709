"""What the checks share: how one ends, what is known so far, and the bounds that judge."""

import hashlib
import json
import os
import sysconfig
from collections import namedtuple

Check = namedtuple("Check", "id title run")


class Failure(Exception):
    """A check's number is outside its bound; `fields` say which, what it means and what to do."""

    def __init__(self, **fields):
        super().__init__(fields.get("detail", ""))
        self.fields = fields


class NotRun(Exception):
    """There is nothing to check here, and why."""


def silence(done, total, text=""):
    """Progress for nobody."""


class Inspection:
    """What the checks share: the lock, the bounds, and what has been observed so far."""

    def __init__(self, lock_file, bounds, require_gpu=False):
        self.bounds = bounds
        self.require_gpu = require_gpu
        self.facts = {"site_packages": sysconfig.get_paths()["purelib"]}
        self.training = {}
        self.training_error = None
        self.on_progress = silence
        self.lock = None
        if os.path.exists(lock_file):
            with open(lock_file, "rb") as stream:
                text = stream.read()
            self.lock = json.loads(text)
            self.facts["wheel_bytes"] = sum(wheel["size"] for wheel in self.lock["wheels"])
            self.facts["lock"] = "sha256:" + hashlib.sha256(text).hexdigest()

    def stack(self, name):
        """A value of the locked stack."""
        if self.lock is None:
            raise NotRun("there is no lock in here to compare with")
        return self.lock["stack"][name]

    def judge(self, check_id, value, detail="", remedy="", **fields):
        """The fields of a passed check; raises `Failure` if `value` is outside its bound."""
        bound = self.bounds[check_id]
        fields.update(value=value, bound=bound)
        if not bound.get("min", value) <= value <= bound.get("max", value):
            raise Failure(detail=detail, remedy=remedy, **fields)
        return fields
