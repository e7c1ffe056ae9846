//! Background work whose end is noticed: a panic in it is logged instead of lost.

#![expect(clippy::disallowed_methods, reason = "the one place that spawns")]

use std::future::Future;

use tokio::task::JoinHandle;

/// Runs `work` in the background under a name.
pub fn spawn<T: Send + 'static>(
    name: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<Option<T>> {
    let inner = tokio::spawn(work);
    tokio::spawn(async move {
        match AbortOnDrop(inner).join().await {
            Ok(value) => Some(value),
            Err(error) if error.is_cancelled() => None,
            Err(_) => {
                tracing::error!(task = name, "a task panicked");
                None
            }
        }
    })
}

/// Aborting the outer task aborts the inner one.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> AbortOnDrop<T> {
    async fn join(mut self) -> Result<T, tokio::task::JoinError> {
        (&mut self.0).await
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
