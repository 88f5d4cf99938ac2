//! The runtime that openraft runs on: tokio, without deadlines for calls.
//!
//! openraft ends every call to another member after a time that its settings fix at the start: an AppendEntries after
//! one heartbeat, a vote after the shortest election timeout. No such time fits both a rack and two continents, and a
//! call that is cut off is repeated in full. How long a member may stay silent is decided where its distance is known,
//! in `line` and `network`, and every call ends there. Therefore this runtime does not keep openraft's own deadlines.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use openraft::{AsyncRuntime, OptionalSend, TokioRuntime};

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Untimed;

/// A future that openraft wanted to end at a deadline.
pub(super) struct Awaited<F>(Pin<Box<F>>);

impl<F: Future> Future for Awaited<F> {
    type Output = Result<F::Output, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context).map(Ok)
    }
}

impl AsyncRuntime for Untimed {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = Infallible;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Awaited<T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type OneshotSender<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiver<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotReceiver<T>;
    type OneshotReceiverError = <TokioRuntime as AsyncRuntime>::OneshotReceiverError;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(_duration: Duration, future: F) -> Self::Timeout<R, F> {
        Awaited(Box::pin(future))
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(_deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        Awaited(Box::pin(future))
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn oneshot<T: OptionalSend>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>) {
        TokioRuntime::oneshot()
    }
}
