//! Classes of store errors: failures of the database, and of one document.

use std::{io, time::Duration};

use mongodb::error::{ErrorKind, WriteFailure};

use super::StoreError;

/// Codes of a server that is no primary, shuts down, lost its connections, or did not finish in time.
///
/// See <https://www.mongodb.com/docs/manual/reference/error-codes/>.
const UNAVAILABLE: [i32; 18] = [
    6, 7, 50, 64, 89, 91, 100, 134, 189, 202, 262, 290, 9_001, 10_107, 11_600, 11_602, 13_435,
    13_436,
];

/// Whether the database caused the error: no connection, no answer in time, or no acknowledgement by a majority. Any
/// other error concerns the documents of its command alone.
pub fn is_unavailable(error: &StoreError) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Io(_)
        | ErrorKind::ServerSelection { .. }
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::Authentication { .. }
        | ErrorKind::Shutdown
        | ErrorKind::Write(WriteFailure::WriteConcernError(_)) => true,
        ErrorKind::InsertMany(many) => many.write_concern_error.is_some(),
        ErrorKind::Command(command) => UNAVAILABLE.contains(&command.code),
        _ => error.contains_label(mongodb::error::UNKNOWN_TRANSACTION_COMMIT_RESULT),
    }
}

/// Whether a document that this build cannot decode caused the error, for example one of a newer build.
pub fn is_undecodable(error: &StoreError) -> bool {
    matches!(
        error.kind.as_ref(),
        ErrorKind::BsonDeserialization(_) | ErrorKind::Bson(_)
    )
}

/// The error of an operation that was not answered within `timeout`.
pub fn timed_out(timeout: Duration) -> StoreError {
    let text = format!("MongoDB did not answer within {timeout:?}");
    io::Error::new(io::ErrorKind::TimedOut, text).into()
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn a_missing_answer_is_the_databases_failure_and_a_document_is_not() {
        let undecodable = bson::deserialize_from_document::<bool>(doc! { "plan": "new" });
        let undecodable = StoreError::from(undecodable.unwrap_err());
        let late = timed_out(Duration::from_secs(3));

        assert!(is_unavailable(&late) && !is_undecodable(&late));
        assert!(is_undecodable(&undecodable) && !is_unavailable(&undecodable));
        assert!(late.kind.to_string().ends_with("within 3s"), "{late}");
    }
}
