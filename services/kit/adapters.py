"""What a composition root builds once and passes down."""

from dataclasses import dataclass
from typing import Self

from services.kit import failpoints, logging
from services.kit.auth import Auth
from services.kit.bell import Bell
from services.kit.db import Database
from services.kit.erasure import Erasure
from services.kit.jobs.ledger import Jobs
from services.kit.jobs.pairing import Pairing
from services.kit.objects import ObjectStore
from services.kit.settings import Settings


@dataclass(frozen=True)
class Adapters:
    settings: Settings
    db: Database
    bell: Bell
    jobs: Jobs
    store: ObjectStore
    erasure: Erasure
    auth: Auth

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Build every adapter. Opens no connection yet: servers may still be starting."""
        logging.configure(settings.log_level)
        failpoints.arm(settings.fail)
        db = Database(settings.database_url.get_secret_value())
        bell = Bell(settings.broker_url.get_secret_value())
        store = ObjectStore(
            settings.s3_endpoint,
            settings.s3_access_key.get_secret_value(),
            settings.s3_secret_key.get_secret_value(),
            settings.bucket,
            secure=settings.s3_secure,
            folder=settings.s3_folder,
        )
        db.before_commit(store.sync)
        return cls(
            settings=settings,
            db=db,
            bell=bell,
            jobs=Jobs(bell, settings.queued_cap, settings.owner_cap),
            store=store,
            erasure=Erasure(store, Pairing(db, store), settings.s3_compact),
            auth=Auth(
                db,
                settings.key_pepper.get_secret_value(),
                settings.service_secret.get_secret_value(),
            ),
        )

    def close(self) -> None:
        """Give the connections back; whoever asks later gets new ones."""
        self.db.close()
        self.bell.close()
