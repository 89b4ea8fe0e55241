module heddle.dev/examples/greeter

go 1.27
