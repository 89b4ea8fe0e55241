//! A greeter in Rust. In: a name, or bytes. Out: a greeting that says which language it comes from, an error for a name
//! that is empty, or the same bytes. It imports nothing, so it runs wherever its caller does.

mod exports {
    wit_bindgen::generate!({ path: "../wit", world: "greeter", generate_all });

    export!(Greeter with_types_in self);

    pub struct Greeter;

    impl exports::example::greet::greeter::Guest for Greeter {
        fn greet(name: String) -> String {
            greeting(&name)
        }

        fn try_greet(name: String) -> Result<String, String> {
            match name.is_empty() {
                true => Err("nobody to greet".to_owned()),
                false => Ok(greeting(&name)),
            }
        }

        fn echo(data: Vec<u8>) -> Vec<u8> {
            data
        }
    }

    fn greeting(name: &str) -> String {
        format!("Hello from Rust, {name}!")
    }
}
