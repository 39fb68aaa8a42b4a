//! A body that comes in pieces, pauses, or breaks off.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// Long enough for hyper to write out what it has before the connection breaks.
const FLUSH: Duration = Duration::from_millis(30);

/// One step in sending a body.
enum Step {
    Piece(Bytes),
    Pause(Duration),
    Break,
}

/// A body as a list of steps.
pub(super) struct Steps {
    steps: VecDeque<Step>,
    pause: Option<Pin<Box<Sleep>>>,
    /// The length that the headers promise; without one the body is chunked.
    left: Option<u64>,
}

impl Steps {
    /// The whole body at once; chunked without a Content-Length.
    pub(super) fn whole(body: Vec<u8>, chunked: bool) -> Self {
        let left = (!chunked).then_some(body.len() as u64);
        let steps = if body.is_empty() { VecDeque::new() } else { [Step::Piece(body.into())].into() };
        Self { steps, pause: None, left }
    }

    /// Promises the whole body, sends a number of its bytes, and ends the connection.
    pub(super) fn truncated(mut body: Vec<u8>, bytes: usize, chunked: bool) -> Self {
        let mut steps = Self::whole(body.clone(), chunked);
        body.truncate(bytes);
        steps.steps = [Step::Pause(FLUSH), Step::Break].into();
        if !body.is_empty() {
            steps.steps.push_front(Step::Piece(body.into()));
        }
        steps
    }

    /// The whole body in pieces with pauses between them.
    pub(super) fn dribble(body: Vec<u8>, chunk: usize, millis: u64, chunked: bool) -> Self {
        let mut steps = Self::whole(Vec::new(), chunked);
        steps.left = steps.left.map(|_| body.len() as u64);
        let body = Bytes::from(body);
        for start in (0..body.len()).step_by(chunk.max(1)) {
            let end = (start + chunk.max(1)).min(body.len());
            steps.steps.push_back(Step::Piece(body.slice(start..end)));
            steps.steps.push_back(Step::Pause(Duration::from_millis(millis)));
        }
        steps.steps.pop_back();
        steps
    }
}

impl Body for Steps {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        loop {
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(context));
                this.pause = None;
            }
            match this.steps.pop_front() {
                Some(Step::Piece(piece)) => {
                    this.left = this.left.map(|left| left.saturating_sub(piece.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Some(Step::Pause(duration)) => this.pause = Some(Box::pin(sleep(duration))),
                Some(Step::Break) => return Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into()))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.pause.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
