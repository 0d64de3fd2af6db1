//! The board, and the worker that makes the moves.

use std::sync::{Arc, Mutex, PoisonError};

use longhaul::client::Client;
use longhaul::worker::{Context, Json, Stop, Worker};
use serde::{Deserialize, Serialize};
use tonic::Code;

/// A move: coordinates from 1 to 3, and `X` or `O`.
#[derive(Deserialize, Serialize)]
pub(crate) struct Move {
    pub(crate) row: usize,
    pub(crate) column: usize,
    pub(crate) mark: String,
}

/// The `status` of the API's schema.
#[derive(Serialize)]
pub(crate) struct Status {
    pub(crate) winner: String,
    pub(crate) board: [[String; 3]; 3],
}

/// A game. Clones are the same game.
#[derive(Clone, Default)]
pub(crate) struct Game(Arc<Mutex<[[Option<char>; 3]; 3]>>);

impl Game {
    /// The worker that makes the moves.
    pub(crate) fn worker(&self, client: Client) -> Worker {
        let game = self.clone();
        let put = move |context: Context, Json(wanted): Json<Move>| {
            let game = game.clone();
            async move { game.put(&wanted, context.attempt() > 1).map(Json) }
        };
        Worker::builder(client).queue(QUEUE).handler(METHOD, put)
    }

    /// Puts a mark on an empty square. An earlier attempt of the same move may have done it already.
    fn put(&self, wanted: &Move, again: bool) -> Result<Status, Stop> {
        {
            let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let row = board.get_mut(wanted.row.wrapping_sub(1));
            let Some(square) = row.and_then(|row| row.get_mut(wanted.column.wrapping_sub(1)))
            else {
                return Err(Stop::fail(Code::InvalidArgument, "Illegal coordinates."));
            };
            let mark = wanted.mark.chars().next();
            if square.is_some() && !(again && *square == mark) {
                return Err(Stop::fail(Code::FailedPrecondition, "Square is not empty."));
            }
            *square = mark;
        }
        Ok(self.status())
    }

    /// The whole board, and who has won.
    pub(crate) fn status(&self) -> Status {
        let board = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = |square: Option<char>| square.unwrap_or('.').to_string();
        let won = LINES.iter().find_map(|line| {
            let [one, two, three] = line.map(|(row, column)| board[row][column]);
            one.filter(|_| one == two && two == three)
        });
        Status { winner: mark(won), board: board.map(|row| row.map(mark)) }
    }
}

pub(crate) const QUEUE: &str = "tictactoe";
pub(crate) const METHOD: &str = "put-square";
const LINES: [[(usize, usize); 3]; 8] = [
    [(0, 0), (0, 1), (0, 2)],
    [(1, 0), (1, 1), (1, 2)],
    [(2, 0), (2, 1), (2, 2)],
    [(0, 0), (1, 0), (2, 0)],
    [(0, 1), (1, 1), (2, 1)],
    [(0, 2), (1, 2), (2, 2)],
    [(0, 0), (1, 1), (2, 2)],
    [(0, 2), (1, 1), (2, 0)],
];
