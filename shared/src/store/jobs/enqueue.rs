//! Transactional enqueue (outbox): a job is inserted in the transaction of the change it serves.

use bson::doc;
use mongodb::{
    ClientSession,
    error::{ErrorKind, IndexedWriteError},
    options::ReturnDocument,
};

use super::JobRepository;
use crate::{
    queue::{
        job::{Job, JobState},
        new_job::NewJob,
    },
    store::{StoreError, group_commit::Inserts, to_document},
};

impl JobRepository {
    /// Enqueues a job, or joins the available job with its unique key. The caller notifies the ready set after the
    /// commit.
    ///
    /// A join **writes** the joined job. Catching the duplicate key error would abort the transaction, and only reading
    /// the job would allow a worker to claim it with the old desired state before the new one is committed. The steps
    /// restart, because the desired state is new.
    pub async fn enqueue(
        &self,
        session: &mut ClientSession,
        new: &NewJob,
    ) -> Result<Job, StoreError> {
        let job = new.job();
        let Some(unique_key) = &job.unique_key else {
            return self.insert(session, new).await;
        };

        let available = doc! { "uniqueKey": unique_key, "state": JobState::Available.name() };
        let mut reset =
            doc! { "attempt": 0, "crashes": 0, "steps": [], "updatedAt": job.updated_at };
        if let Some(give_up_at) = job.give_up_at {
            reset.insert("giveUpAt", give_up_at);
        }
        let earliest = doc! { "runAt": job.run_at, "priority": job.priority };
        // Fields of a new job that neither the filter nor the other operators set.
        let mut insert = to_document(job)?;
        for written in available.keys().chain(reset.keys()).chain(earliest.keys()) {
            insert.remove(written);
        }
        insert.remove("revision");

        let update = doc! {
            "$setOnInsert": insert,
            "$min": earliest,
            "$set": reset,
            "$unset": { "error": "", "cancelRequested": "" },
            "$inc": { "revision": 1_i64 },
        };
        let joined = self
            .jobs
            .find_one_and_update(available, update)
            .upsert(true)
            .return_document(ReturnDocument::After)
            .session(session)
            .await?;
        joined.ok_or_else(|| StoreError::custom("an upsert returned nothing".to_owned()))
    }

    /// Enqueues a job about a new object, whose unique key cannot exist yet.
    pub async fn enqueue_new(
        &self,
        session: &mut ClientSession,
        new: &NewJob,
    ) -> Result<Job, StoreError> {
        self.insert(session, new).await
    }

    /// As [`enqueue_new`](Self::enqueue_new), in a [group commit](crate::store::group_commit).
    pub fn enqueue_in_group(&self, inserts: &mut Inserts, new: &NewJob) -> Result<Job, StoreError> {
        inserts.add(&self.jobs, new.job())?;
        Ok(new.job().clone())
    }

    async fn insert(&self, session: &mut ClientSession, new: &NewJob) -> Result<Job, StoreError> {
        self.jobs.insert_one(new.job()).session(session).await?;
        Ok(new.job().clone())
    }

    /// Enqueues jobs outside of a transaction, because they serve no other change. A job that exists, or whose unique
    /// key is available, is skipped. Returns the number of enqueued jobs; the caller then notifies the ready set.
    pub async fn enqueue_many(&self, new: &[NewJob]) -> Result<usize, StoreError> {
        if new.is_empty() {
            return Ok(0);
        }
        let inserted = self
            .jobs
            .insert_many(new.iter().map(NewJob::job))
            .ordered(false)
            .await;
        match inserted {
            Ok(inserted) => Ok(inserted.inserted_ids.len()),
            Err(error) => match error.kind.as_ref() {
                ErrorKind::InsertMany(failed)
                    if failed.write_concern_error.is_none()
                        && failed.write_errors.iter().flatten().all(is_duplicate) =>
                {
                    let refused = failed.write_errors.as_ref().map_or(0, Vec::len);
                    Ok(new.len() - refused)
                }
                _ => Err(error),
            },
        }
    }
}

fn is_duplicate(error: &IndexedWriteError) -> bool {
    error.code == 11000
}
