//! How many calls to the topic are under way together: as many as SNS lets
//! through. Pure.
//!
//! Additive increase, multiplicative decrease: the rule by which TCP finds a
//! path's capacity that nobody tells it (Chiu and Jain, 1989). SNS's quota
//! differs by region and account and is shared with others.

/// Calls under way at the begin.
const WINDOW_FIRST: f64 = 4.0;

/// What a throttled call leaves of the window.
const DECREASE: f64 = 0.7;

/// A window of calls under way.
#[derive(Debug, Clone)]
pub struct Window {
    size: f64,
    size_max: f64,
    under_way: usize,
    /// Calls that were answered since the last decrease.
    answered: usize,
}

impl Window {
    /// A window that grows to `size_max` calls at most.
    #[must_use]
    pub fn new(size_max: usize) -> Self {
        let size_max = size_max.max(1) as f64;
        Self { size: WINDOW_FIRST.min(size_max), size_max, under_way: 0, answered: usize::MAX }
    }

    /// Calls that may be under way together, at least one.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size as usize
    }

    /// Calls under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Takes a place, where one is free.
    pub fn enter(&mut self) -> bool {
        let is_free = self.under_way < self.size();
        self.under_way += usize::from(is_free);
        is_free
    }

    /// A call ended without telling anything of SNS's capacity.
    pub fn leave(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// A call was let through. The window grows only where it is in use.
    pub fn passed(&mut self) {
        if self.under_way * 2 >= self.size() {
            self.size = (self.size + 1.0 / self.size).min(self.size_max);
        }
        self.answered = self.answered.saturating_add(1);
        self.leave();
    }

    /// A call was throttled. Those that were under way with it are throttled by
    /// the same excess: they do not shrink the window again.
    pub fn throttled(&mut self) {
        if self.answered >= self.size() {
            self.size = (self.size * DECREASE).max(1.0);
            self.answered = 0;
        } else {
            self.answered += 1;
        }
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of full windows, of which SNS lets `capacity` calls through.
    fn round(window: &mut Window, capacity: usize) {
        let mut calls = 0;
        while window.enter() {
            calls += 1;
        }
        for call in 0..calls {
            if call < capacity { window.passed() } else { window.throttled() }
        }
        assert_eq!(window.under_way(), 0);
    }

    #[test]
    fn it_grows_to_its_bound_where_nothing_is_throttled() {
        let mut window = Window::new(16);
        assert_eq!(window.size(), 4);
        for _ in 0..100 {
            round(&mut window, usize::MAX);
        }
        assert_eq!(window.size(), 16);
    }

    #[test]
    fn it_finds_what_is_let_through_and_follows_it() {
        let mut window = Window::new(64);
        for capacity in [20, 5, 40] {
            let sizes: Vec<usize> = (0..200)
                .map(|_| {
                    round(&mut window, capacity);
                    window.size()
                })
                .collect();
            let settled = &sizes[100..];
            assert!(settled.iter().all(|size| *size <= capacity + 1), "{capacity}: {settled:?}");
            let mean = settled.iter().sum::<usize>() / settled.len();
            assert!(mean * 10 >= capacity * 7, "{capacity}: {mean}");
        }
    }

    #[test]
    fn one_place_is_always_there() {
        let mut window = Window::new(8);
        for _ in 0..100 {
            round(&mut window, 0);
        }
        assert_eq!(window.size(), 1);
        assert!(window.enter());
        assert!(!window.enter());
    }

    #[test]
    fn an_idle_window_does_not_grow() {
        let mut window = Window::new(64);
        for _ in 0..1_000 {
            assert!(window.enter());
            window.passed();
        }
        assert_eq!(window.size(), 4, "one call at a time needs no more");
    }
}
