// A greeter in JavaScript. In: a name, or bytes. Out: a greeting that says which language it comes from, an error for a
// name that is empty, or the same bytes. It is built with QuickJS inside; what it exports is `example:greet/greeter`.

const greeting = (name) => `Hello from JavaScript, ${name}!`;

export const greeter = {
  greet: greeting,

  // A result: what is thrown is its error.
  tryGreet(name) {
    if (name === "") {
      throw "nobody to greet";
    }
    return greeting(name);
  },

  echo: (data) => data,
};
