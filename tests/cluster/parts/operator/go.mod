module reconciler.example/operator

go 1.26.0
