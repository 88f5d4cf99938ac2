//! How much memory a thread holds, for tests of what must not grow.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// The system's allocator, which counts what each thread takes and gives back.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    // `const` and without a destructor: memory may be asked for at any moment of a thread's life.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // This fails at the very end of a thread, when nobody measures.
    _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        MOST.try_with(|most| most.set(most.get().max(held.get())))
    });
}

// SAFETY: every call is passed on to the system's allocator as it came; what is counted is not memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps what this trait demands of it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above, and `pointer` came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Starts a new measurement on this thread: [`most_held`] then counts what is held beyond the present amount.
pub(crate) fn measure() {
    HELD.set(0);
    MOST.set(0);
}

/// Returns the most bytes that this thread has held since [`measure`], beyond what it held then.
pub(crate) fn most_held() -> usize {
    usize::try_from(MOST.get()).unwrap_or(0)
}
