from srlib.commands import main

raise SystemExit(main())
