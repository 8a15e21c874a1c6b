//! How many pieces of a file are on their way at once: as many as the line carries in about a
//! second, so that a fast line is full and a slow one is not promised to ten pieces at a time.

use std::time::Duration;

/// A window that follows the line.
///
/// One piece more for each that was quick, one less for each that took long, and never fewer than
/// two: while one is being confirmed the next is on its way.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    window: usize,
    most: usize,
}

impl Pace {
    /// A window of at most so many pieces, before anything is known of the line.
    pub fn up_to(most: usize) -> Self {
        Self { window: PIECES_MIN.min(most), most }
    }

    /// How many pieces may be on their way now.
    pub fn window(&self) -> usize {
        self.window
    }

    /// Notes how long a piece took, from its start to its end.
    pub fn took(&mut self, time: Duration) {
        if time <= QUICK {
            self.window = self.most.min(self.window + 1);
        } else if time >= LONG {
            self.window = PIECES_MIN.min(self.most).max(self.window - 1);
        }
    }
}

/// A piece that was quicker leaves room for one more.
const QUICK: Duration = Duration::from_millis(800);
/// After one that took longer there is one less.
const LONG: Duration = Duration::from_secs(2);
/// Pieces at once on any line.
const PIECES_MIN: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// The windows after pieces that took so many milliseconds.
    #[track_caller]
    fn check(most: usize, took: &[u64], expected: &[usize]) {
        let mut pace = Pace::up_to(most);
        let seen = took.iter().map(|millis| {
            pace.took(Duration::from_millis(*millis));
            pace.window()
        });
        assert_eq!(seen.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_fast_line_gets_many_pieces_and_a_slow_one_two() {
        assert_eq!(Pace::up_to(8).window(), 2);
        check(8, &[1; 8], &[3, 4, 5, 6, 7, 8, 8, 8]);
        check(4, &[9000, 9000, 1, 1, 1, 1000, 9000], &[2, 2, 3, 4, 4, 4, 3]);
        check(1, &[1, 9000], &[1, 1]);
    }

    #[test]
    fn what_is_on_its_way_settles_at_about_a_second_of_the_line() {
        for (piece_ms, at_least, at_most) in [(10, 8, 8), (250, 3, 8), (1700, 2, 2)] {
            let mut pace = Pace::up_to(8);
            for _ in 0..100 {
                // Those on their way share the line.
                pace.took(Duration::from_millis(piece_ms * pace.window() as u64));
            }
            let window = pace.window();
            assert!((at_least..=at_most).contains(&window), "{piece_ms}: {window}");
        }
    }
}
