//! How a request is answered that may have to wait.

use std::future::Future;
use std::task::{Context, Poll, Waker};

use fuser::{Errno, Request};

use super::Dispatch;
use crate::fs::Refused;
use crate::metrics::Counters;

impl Dispatch {
    /// As [`run`](Self::run); after an answer the thread stays awake for what follows.
    pub(super) fn answer<T: Send + 'static>(
        &self,
        request: &Request,
        operation: impl Future<Output = Result<T, Refused>> + Send + 'static,
        answer: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        if self.run(request, operation, answer) {
            self.vigil.keep();
        }
    }

    /// Polls an operation once where it stands, and answers; or, where it must wait, moves it into
    /// a task with a watch over its caller. Returns whether it is answered.
    pub(super) fn run<T: Send + 'static>(
        &self,
        request: &Request,
        operation: impl Future<Output = Result<T, Refused>> + Send + 'static,
        answer: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) -> bool {
        let mut operation = Box::pin(operation);
        let _runtime = self.runtime.enter();
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(result) = operation.as_mut().poll(&mut context) {
            answer(count(&self.counters, result));
            return true;
        }
        let (callers, counters, tid) = (self.callers.clone(), self.counters.clone(), request.pid());
        self.runtime.spawn(async move {
            let result = callers.watch(tid, operation).await;
            answer(count(&counters, result));
        });
        self.vigil.give_up();
        false
    }
}

/// Turns a refusal into its errno, and counts it.
pub(super) fn count<T>(counters: &Counters, result: Result<T, Refused>) -> Result<T, Errno> {
    result.map_err(|refused| {
        if let Some(why) = refused.why() {
            counters.refused(why);
        }
        Errno::from_i32(refused.errno())
    })
}
