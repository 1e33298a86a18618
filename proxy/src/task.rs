//! Tasks have names, and a task that dies says so.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::task::JoinHandle;

/// Spawns `future` on the current runtime. A panic in it is logged under `name` and ends that task alone; the handle then
/// gives `None`.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns: under a name")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    // Combinators and no `async` block, which would take room for the future twice: before it is begun and after.
    tokio::spawn(AssertUnwindSafe(future).catch_unwind().map(move |ended| {
        ended
            .inspect_err(|panic| tracing::error!(task = name, panic = panic_text(panic.as_ref()), "a task panicked"))
            .ok()
    }))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_task_alone() {
        let handle = spawn("doomed", async { panic!("on purpose") });
        assert_eq!(handle.await.unwrap(), None::<()>);
    }
}
