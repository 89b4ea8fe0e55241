//! The rest of a long answer of a guest that computes: taken on the slow lane, in few large pieces.
//!
//! In: a guest's body. Out: the same bytes. Every piece of an answer costs the thread of its connection a turn and a write, and that
//! thread serves others as well; a guest that writes small pieces without end would keep it busy.

use crate::engine::lanes::{Moved, spawn_slow};
use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use http_body::Frame;
use http_body_util::BodyExt as _;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use wasmtime_wasi_http::{Error, WasiBody};

/// The most bytes that are put together to one piece.
const PIECE_BYTES: usize = 64 << 10;
/// How often a guest that has not written more may have another turn before its piece goes out.
const TURNS: u32 = 2;
/// Pieces that may wait for a client that reads slowly; then the guest waits.
const PIECES_WAITING: usize = 2;

type Piece = Result<Frame<Bytes>, Error>;

/// A body on its way through the slow lane.
pub(super) struct Bulk {
    pieces: mpsc::Receiver<Piece>,
    _pump: Moved<()>,
}

impl Bulk {
    pub(super) fn of(body: WasiBody) -> Self {
        let (to, pieces) = mpsc::channel(PIECES_WAITING);
        Self {
            pieces,
            _pump: Moved::new(spawn_slow(pump(body, to))),
        }
    }

    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        self.pieces.poll_recv(cx)
    }
}

/// Ends when the body does, or with its first error.
async fn pump(mut body: WasiBody, to: mpsc::Sender<Piece>) {
    let mut piece = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let (mut next, mut turns) = (Some(frame), 0);
        let other = loop {
            match next.take().map(into_data) {
                Some(Ok(data)) => {
                    piece.extend_from_slice(&data);
                    turns = 0;
                }
                Some(Err(other)) => break Some(other),
                None => {
                    turns += 1;
                    yield_now().await;
                }
            }
            if piece.len() >= PIECE_BYTES || turns >= TURNS {
                break None;
            }
            match body.frame().now_or_never() {
                Some(Some(frame)) => next = Some(frame),
                Some(None) => break None,
                None => {}
            }
        };
        let data = (!piece.is_empty()).then(|| Ok(Frame::data(piece.split().freeze())));
        for piece in data.into_iter().chain(other) {
            let failed = piece.is_err();
            if to.send(piece).await.is_err() || failed {
                return;
            }
        }
    }
}

/// The data of a frame; anything else as it is.
fn into_data(frame: Piece) -> Result<Bytes, Piece> {
    frame.map_err(Err)?.into_data().map_err(Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use http_body_util::StreamBody;
    use std::future::poll_fn;

    fn body(frames: Vec<Piece>) -> WasiBody {
        StreamBody::new(stream::iter(frames)).boxed_unsync()
    }

    async fn pieces(frames: Vec<Piece>) -> Vec<Piece> {
        let mut bulk = Bulk::of(body(frames));
        let mut all = Vec::new();
        while let Some(piece) = poll_fn(|cx| bulk.poll_piece(cx)).await {
            all.push(piece);
        }
        all
    }

    #[tokio::test]
    async fn small_pieces_come_out_as_few_large_ones_with_every_byte() {
        let small = |n: u32| Ok(Frame::data(Bytes::from(vec![n as u8; 1_000])));
        let all = pieces((0..1_000).map(small).collect()).await;
        assert!(all.len() <= 16, "{}", all.len());
        let bytes: Vec<u8> = all
            .into_iter()
            .flat_map(|piece| piece.unwrap().into_data().unwrap())
            .collect();
        let expected: Vec<u8> = (0..1_000_u32).flat_map(|n| vec![n as u8; 1_000]).collect();
        assert!(bytes == expected);
    }

    #[tokio::test]
    async fn trailers_and_errors_come_after_the_data_before_them() {
        let data = || Ok(Frame::data(Bytes::from_static(b"data")));
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x", http::HeaderValue::from_static("y"));
        let all = pieces(vec![data(), data(), Ok(Frame::trailers(trailers))]).await;
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].as_ref().unwrap().data_ref().unwrap().as_ref(), b"datadata");
        assert!(all[1].as_ref().unwrap().is_trailers());
        let all = pieces(vec![data(), Err(Error::ConnectionTerminated), data()]).await;
        assert_eq!(all.len(), 2);
        assert!(all[0].is_ok() && all[1].is_err());
    }
}
