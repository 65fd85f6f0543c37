//! Open transactions that block writers of the same documents.

use bson::{Document, doc};
use dezky_shared::{id::JobId, store::TransactionError};
use futures::{FutureExt as _, TryStreamExt as _, future::BoxFuture};
use mongodb::{ClientSession, options::ReadConcern};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::{Harness, until};

/// A transaction that stays open.
pub(crate) struct OpenTransaction {
    commit: CancellationToken,
    done: JoinHandle<bool>,
}

impl OpenTransaction {
    /// Commits. False if MongoDB aborted the transaction before, on a slow machine, and it was repeated.
    pub(crate) async fn commit(self) -> bool {
        self.commit.cancel();
        self.done.await.unwrap()
    }
}

impl Harness {
    /// Writes to these jobs in a transaction that stays open until it is committed.
    pub(crate) async fn hold(&self, ids: &[JobId]) -> OpenTransaction {
        let ids = ids.to_vec();
        let jobs = self.jobs();
        self.open(move |session| {
            let (jobs, ids) = (jobs.clone(), ids.clone());
            async move {
                let held = doc! { "_id": { "$in": ids } };
                jobs.update_many(held, doc! { "$set": { "held": true } })
                    .session(session)
                    .await?;
                Ok(())
            }
            .boxed()
        })
        .await
    }

    /// Runs `body` in a transaction that stays open until it is committed.
    pub(crate) async fn open<F>(&self, body: F) -> OpenTransaction
    where
        F: for<'s> Fn(&'s mut ClientSession) -> BoxFuture<'s, Result<(), TransactionError<()>>>
            + Send
            + 'static,
    {
        let (opened, is_open) = tokio::sync::oneshot::channel();
        let commit = CancellationToken::new();
        let (store, may_commit) = (self.context.store.clone(), commit.clone());
        let done = tokio::spawn(async move {
            let mut runs = 0;
            let committed: Result<(), TransactionError<()>> = store
                .transaction(
                    (Some(opened), body, may_commit, &mut runs),
                    |session, (opened, body, commit, runs)| {
                        async move {
                            **runs += 1;
                            body(session).await?;
                            if let Some(opened) = opened.take() {
                                opened.send(()).unwrap();
                            }
                            commit.cancelled().await;
                            Ok(())
                        }
                        .boxed()
                    },
                )
                .await;
            committed.unwrap();
            runs == 1
        });
        is_open.await.unwrap();
        OpenTransaction { commit, done }
    }

    /// Waits until an update of jobs is blocked by an open transaction.
    pub(crate) async fn until_an_update_is_blocked(&self) {
        let admin = self
            .context
            .store
            .collection::<Document>("jobs")
            .client()
            .database("admin");
        let namespace = format!("{}.jobs", self.mongodb.database);
        let blocked = vec![
            doc! { "$currentOp": { "allUsers": true } },
            doc! { "$match": { "ns": { "$in": [namespace, format!("{}.$cmd", self.mongodb.database)] }, "writeConflicts": { "$gt": 0 } } },
        ];
        until(
            async || {
                let mut found = admin
                    .aggregate(blocked.clone())
                    .read_concern(ReadConcern::local())
                    .await
                    .unwrap();
                found.try_next().await.unwrap()
            },
            Option::is_some,
        )
        .await;
    }
}
