//! Who gives way at the store's writer.
//!
//! A thread that moves rows by the hundred thousand says so once; what others hand over passes it. It is the thread that
//! says it, not each call: what one thread hands over must stay in order.

use std::cell::Cell;

thread_local! {
    static BULK: Cell<bool> = const { Cell::new(false) };
}

/// From here on what this thread hands over gives way.
pub fn give_way() {
    BULK.set(true);
}

/// Whether it does.
pub fn gives_way() -> bool {
    BULK.get()
}
