//! Cases about the past.

use crate::bed::Bed;
use bytes::Bytes;

pub async fn parts_of_the_past_come_back_by_number_in_their_order(bed: Bed) {
    let past = bed.past().await;
    assert!(past.range().await.unwrap().is_empty());
    for part in 0..5 {
        past.append(Bytes::from(format!("part {part}"))).await.unwrap();
    }
    // Another scheduler reads the same.
    let range = past.range().await.unwrap();
    assert_eq!(range.end - range.start, 5);
    let mut read = Vec::new();
    for number in range.clone() {
        read.extend(past.read(number).await.unwrap());
    }
    assert_eq!(read, ["part 0", "part 1", "part 2", "part 3", "part 4"]);
    assert_eq!(past.read(range.end).await.unwrap(), None);
}
