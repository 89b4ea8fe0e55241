//! A callee whose functions are async. In: a name, or a stream of bytes. Out: a greeting, or a stream of the same bytes in
//! capitals: each chunk as soon as it came, so a caller that waits for an answer before it writes on gets one.

mod exports {
    wit_bindgen::generate!({ path: "../wit", world: "callee", generate_all });

    export!(Shout with_types_in self);

    struct Shout;

    /// What is read at once.
    const CHUNK: usize = 4_096;

    impl exports::test::shout::shouter::Guest for Shout {
        async fn greet(name: String) -> String {
            // Everybody else goes first: the answer comes after the function has been left once.
            wit_bindgen::yield_async().await;
            format!("Hello, {name}!")
        }

        async fn shout(mut quiet: wit_bindgen::StreamReader<u8>) -> wit_bindgen::StreamReader<u8> {
            let (mut loud, answer) = wit_stream::new();
            wit_bindgen::spawn_local(async move {
                loop {
                    let (status, mut chunk) = quiet.read(Vec::with_capacity(CHUNK)).await;
                    chunk.make_ascii_uppercase();
                    if !loud.write_all(chunk).await.is_empty() {
                        // Nobody listens any more.
                        return;
                    }
                    if !matches!(status, wit_bindgen::StreamResult::Complete(_)) {
                        return;
                    }
                }
            });
            answer
        }
    }
}
